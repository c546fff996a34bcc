"""Measuring the value of a store's vectors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.daemon import Daemon
from tests.server.features.stores.store_services import StoreServices

from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import LOCAL
from portico_server.db.stores import StoreRow
from portico_server.features.stores.calibrate import WeightScore, best, check_questions, score

TEXTS = {
    "harbour.txt": "The harbour opens at six in the morning.",
    "bread.txt": "Bread is baked at two hundred degrees.",
    "snow.txt": "The snow lotus grows in high mountains.",
}


async def measured(shop: StoreServices, store: StoreRow, **wish: Any) -> dict[str, Any]:
    row = await shop.stores.get(store.id, LOCAL)
    return await shop.result(await shop.stores.jobs.calibrate(row, LOCAL, wish))


def test_quality_follows_from_the_rank_of_the_first_answer() -> None:
    assert score(0.5, [1, 2, 0, 10]) == WeightScore(
        0.5, pytest.approx((1 + 0.63093 + 0.28906) / 4, abs=1e-4), 0.75, pytest.approx((1 + 0.5 + 0.1) / 4)
    )


def test_among_equally_good_weights_the_nearest_to_the_current_one_wins() -> None:
    scores = [WeightScore(weight, ndcg, 1, 1) for weight, ndcg in ((0.0, 0.5), (0.2, 0.9), (0.6, 0.9))]
    assert best(scores, None).weight == 0.2
    assert best(scores, 0.5).weight == 0.6


@pytest.mark.parametrize(
    "given",
    [
        [],
        [{"question": "What?"}],
        [{"question": " ", "file": "a"}],
        ["What?"],
        [{"question": 1, "file": "a"}],
    ],
)
def test_invalid_calibration_questions_are_refused_with_the_parameter_named(given: Any) -> None:
    with pytest.raises(InvalidRequest) as error:
        check_questions(given)
    assert error.value.param is not None
    assert error.value.param.startswith("questions")


async def test_a_measured_weight_is_stored_used_and_reported(shop: StoreServices) -> None:
    store = await shop.filled(TEXTS)
    questions = [
        {"question": "when does the harbour open", "file": "harbour.txt"},
        {"question": "how hot is bread baked", "passage": "Bread is  baked at two hundred"},
        {"question": "what was never written", "file": "nowhere.txt"},
    ]
    result = await measured(shop, store, questions=questions)
    assert (result["questions"], result["unanswered"], result["applied"]) == (3, 1, False)
    assert [row["weight"] for row in result["scores"]] == [step / 10 for step in range(11)]
    assert (await shop.stores.get(store.id, LOCAL)).vector_weight is None

    result = await measured(shop, store, questions=questions, apply=True)
    row = await shop.stores.get(store.id, LOCAL)
    assert row.vector_weight == result["best"]
    await shop.stores.update(store.id, LOCAL, {"vector_weight": 0.7})
    search_result = await shop.searched(store, "harbour")
    assert [stage.note for stage in search_result.trace if stage.name == "fuse"] == [
        "weighted sum, 0.7 for vectors, as measured"
    ]


async def test_calibration_without_vectors_or_questions_is_refused(shop: StoreServices) -> None:
    words = await shop.stores.create("words", LOCAL, embedding_model="")
    with pytest.raises(InvalidRequest) as error:
        await shop.stores.jobs.calibrate(words, LOCAL, {"questions": [{"question": "x", "file": "y"}]})
    assert error.value.code == "no_vectors"
    with pytest.raises(InvalidRequest) as error:
        await shop.stores.update(words.id, LOCAL, {"vector_weight": 0.5})
    assert (error.value.code, error.value.param) == ("no_vectors", "vector_weight")
    store = await shop.filled(TEXTS)
    for request_options in ({}, {"questions": [], "generate": 3}, {"generate": 3, "model": "letters"}):
        with pytest.raises(InvalidRequest):
            await shop.stores.jobs.calibrate(store, LOCAL, request_options)


@pytest.mark.slow
def test_calibration_works_over_http_and_the_command_line(daemon: Daemon, tmp_path: Path) -> None:
    with httpx.Client(base_url=daemon.url, timeout=60) as http:
        http.post("/api/stores", json={"name": "weighed", "embedding_model": "fake-embedding"})
        text = "The Lighthouse daemon listens on port 7419. " * 4
        file = http.post(
            "/v1/files", data={"purpose": "assistants"}, files={"file": ("port.txt", text.encode())}
        ).json()
        store = http.get("/api/stores/weighed").json()["id"]
        http.post(f"/v1/vector_stores/{store}/files", json={"file_id": file["id"]})
        for _ in range(600):
            if http.get("/api/stores/weighed").json()["file_counts"]["completed"]:
                break
        assert http.post("/api/stores/weighed/calibrate", json={}).status_code == 400
        # The scripted model repeats the passage, which serves as a question too.
        questions = tmp_path / "questions.jsonl"
        questions.write_text(json.dumps({"question": "Which port?", "file": "port.txt"}) + "\n")
        for options in (("--questions", str(questions), "--apply"), ("--generate", "2", "--model", "echo")):
            portico = str(Path(sys.executable).with_name("portico"))
            command = [portico, "--url", daemon.url, "stores", "calibrate", "weighed"]
            process = subprocess.run(
                [*command, *options, "--json"], capture_output=True, text=True, timeout=60
            )
            assert process.returncode == 0, process.stderr
            result = json.loads(process.stdout)
            assert max(row["recall"] for row in result["scores"]) == 1
        assert http.get("/api/stores/weighed").json()["vector_weight"] == result["before"]
        command = [
            portico,
            "--url",
            daemon.url,
            "stores",
            "change",
            "weighed",
            "--vector-weight",
            "0.4",
            "--json",
        ]
        process = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (process.returncode, json.loads(process.stdout)["vector_weight"]) == (0, 0.4), process.stderr
        response = http.patch("/api/stores/weighed", json={"vector_weight": 1.5})
        assert (response.status_code, response.json()["error"]["param"]) == (400, "vector_weight")
        assert http.get("/api/stores/weighed").json()["vector_weight"] == 0.4
