"""Searches over the settings of models, prompts and apps, and over the queries of a store."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.features.evals.eval_daemon import ANYTHING, CONFIGURATION, EQUAL, asking, ended, native

SHORT = "In one word, the capital of {{item.country}}?"
LONG = "The capital of {{item.country}}?"
PROMPT = "input_messages.template[0].content"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "portico.yaml").write_text(CONFIGURATION)
    return folder


@pytest.fixture(scope="module")
def daemon(home: Path, docs: Path) -> Iterator[Daemon]:
    with daemons.running(home / "data", "--file", str(home / "portico.yaml"), "--docs", str(docs)) as running:
        running.settle()
        yield running


@pytest.fixture(scope="module")
def client(daemon: Daemon) -> Iterator[httpx.Client]:
    with native(daemon) as native_client:
        yield native_client


def make(client: httpx.Client, *criteria: dict[str, Any]) -> str:
    response = client.post(
        "/v1/evals", json={"data_source_config": ANYTHING, "testing_criteria": list(criteria) or [EQUAL]}
    )
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def begin(client: httpx.Client, eval_id: str, **wish: Any) -> dict[str, Any]:
    answer = client.post(f"/api/evals/{eval_id}/search", json={"data_source": asking(), **wish})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def found(daemon: Daemon, client: httpx.Client, eval_id: str, **wish: Any) -> dict[str, Any]:
    """Return a search that has ended."""
    new_search = begin(client, eval_id, **wish)
    ended(daemon, new_search["run_id"])
    search = dict(client.get(f"/api/evals/{eval_id}/searches/{new_search['id']}").json())
    assert search["status"] == "completed", search
    return search


def test_all_combinations_are_tried_and_the_best_stands_first(daemon: Daemon, client: httpx.Client) -> None:
    eval_id = make(client)
    search = found(
        daemon,
        client,
        eval_id,
        parameters={PROMPT: [LONG, SHORT], "sampling_params.temperature": [0, 1]},
    )
    trials = search["trials"]
    assert [trial["score"] for trial in trials] == [1.0, 1.0, 0.5, 0.5]
    assert [trial["settings"][PROMPT] for trial in trials] == [SHORT, SHORT, LONG, LONG]
    assert search["best"] == trials[0]["id"]
    assert (trials[0]["standard_error"], trials[2]["standard_error"]) == (0.0, 0.5)
    assert all(trial["tokens"] > 0 and trial["done"] == 2 for trial in trials)
    # A trial is a run of the evaluation and records what was asked.
    run = client.get(f"/v1/evals/{eval_id}/runs/{trials[2]['id']}").json()
    assert (run["search_id"], run["status"], run["settings"]) == (
        search["id"],
        "completed",
        trials[2]["settings"],
    )
    outputs = client.get(f"/v1/evals/{eval_id}/runs/{run['id']}/output_items").json()["data"]
    assert outputs[0]["sample"]["input"][0]["content"] == "The capital of France?"
    refusal = client.delete(f"/v1/evals/{eval_id}/runs/{run['id']}")
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (409, "part_of_search")


def test_an_app_is_tried_with_other_steps_and_the_best_is_deployed(
    daemon: Daemon, client: httpx.Client
) -> None:
    eval_id = make(client)
    place = "apps.atlas.steps.answer.user.$template"
    search = found(
        daemon,
        client,
        eval_id,
        data_source=asking(model="atlas", prompt="{{item.country}}"),
        parameters={place: ["Capital of {country}?", "One word: capital of {country}?"]},
    )
    assert [trial["score"] for trial in search["trials"]] == [1.0, 0.5]
    version_before = client.get("/api/apps/atlas").json()["version"]
    application = client.post(f"/api/evals/{eval_id}/searches/{search['id']}/apply", json={}).json()
    assert application == {"trial": search["best"], "versions": {"atlas": version_before + 1}, "left": {}}
    response = client.post(
        "/v1/chat/completions",
        json={"model": "atlas", "messages": [{"role": "user", "content": "France"}]},
    )
    assert response.json()["choices"][0]["message"]["content"] == "Paris"


def test_a_search_varies_nested_apps_and_durable_apps_leave_no_runs(
    daemon: Daemon, client: httpx.Client
) -> None:
    eval_id = make(client)
    search = found(
        daemon,
        client,
        eval_id,
        data_source=asking(model="outer", prompt="{{item.country}}"),
        parameters={
            "apps.atlas.answer.user.$template": ["The capital of {country}?", "One word: {country}?"]
        },
    )
    assert [trial["score"] for trial in search["trials"]] == [1.0, 0.5]
    assert "flow" not in {run["kind"] for run in client.get("/api/runs").json()["data"]}


def test_settings_that_belong_to_no_app_cannot_be_deployed(daemon: Daemon, client: httpx.Client) -> None:
    eval_id = make(client)
    search = found(daemon, client, eval_id, parameters={"model": ["clerk", "judge"]})
    assert search["trials"][0]["settings"] == {"model": "clerk"}
    refusal = client.post(f"/api/evals/{eval_id}/searches/{search['id']}/apply", json={})
    assert refusal.status_code == 409
    assert "model = 'clerk'" in refusal.json()["error"]["message"]


def lessons(client: httpx.Client) -> str:
    """Return the id of a file that teaches capitals."""
    taught = [("Peru", "Lima"), ("France", "Paris"), ("Japan", "Tokyo")]
    lines = [
        json.dumps(
            {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        )
        for question, answer in taught * 4
    ]
    upload = {"file": ("taught.jsonl", "\n".join(lines).encode())}
    return str(client.post("/v1/files", files=upload, data={"purpose": "fine-tune"}).json()["id"])


def test_settings_of_a_training_are_tried_too(daemon: Daemon, client: httpx.Client) -> None:
    file = lessons(client)
    eval_id = make(client)
    source = asking(prompt="{{item.country}}")
    del source["model"]
    request = {
        "data_source": source,
        "fine_tuning": {"model": "clerk", "training_file": file, "suffix": "capitals"},
        "parameters": {
            "fine_tuning.hyperparameters.n_epochs": [1, 2],
            "sampling_params.temperature": [0, 1],
        },
    }
    plan = client.post(f"/api/evals/{eval_id}/search", json={**request, "dry_run": True}).json()
    assert (plan["trials"], plan["trained"]) == (4, 2)
    search = found(daemon, client, eval_id, **request)
    assert [trial["score"] for trial in search["trials"]] == [1.0] * 4
    runs = [client.get(f"/v1/evals/{eval_id}/runs/{trial['id']}").json() for trial in search["trials"]]
    models = {run["model"] for run in runs}
    assert len(models) == 2
    assert all(name.startswith("ft:clerk:portico:capitals:") for name in models)
    refusal = client.post(f"/api/evals/{eval_id}/searches/{search['id']}/apply", json={})
    assert f"model = '{runs[0]['model']}'" in refusal.json()["error"]["message"]

    wrong = {**request, "parameters": {"fine_tuning.hyperparameters.n_epoch": [1]}}
    error = client.post(f"/api/evals/{eval_id}/search", json=wrong).json()["error"]
    assert (error["code"], "'n_epochs'" in error["message"]) == ("unknown_field", True)
    alone = {"data_source": asking(), "parameters": {"fine_tuning.suffix": ["a"]}}
    error = client.post(f"/api/evals/{eval_id}/search", json=alone).json()["error"]
    assert (error["param"], "'training_file'" in error["message"]) == ("fine_tuning", True)


def test_a_search_that_is_cancelled_ends_its_training(daemon: Daemon, client: httpx.Client) -> None:
    eval_id = make(client)
    search = begin(
        client,
        eval_id,
        fine_tuning={"model": "clerk", "training_file": lessons(client)},
        parameters={"fine_tuning.hyperparameters.n_epochs": [1000]},
    )
    with client.stream("GET", f"/api/runs/{search['run_id']}/events") as events:
        assert any('"train"' in line for line in events.iter_lines())
    client.post(f"/api/evals/{eval_id}/searches/{search['id']}/cancel")
    jobs = client.get(f"/v1/fine_tuning/jobs?metadata[portico_search]={search['id']}").json()["data"]
    assert [job["status"] for job in jobs] == ["cancelled"]


def test_a_random_search_runs_the_given_number_of_trials_reproducibly_by_seed(client: httpx.Client) -> None:
    eval_id = make(client)
    request = {
        "data_source": asking(),
        "parameters": {"sampling_params.temperature": {"min": 0, "max": 2}, PROMPT: [LONG, SHORT]},
        "method": "random",
        "trials": 5,
        "dry_run": True,
    }
    plans = [
        client.post(f"/api/evals/{eval_id}/search", json={**request, "seed": seed}).json()
        for seed in (1, 1, 2)
    ]
    assert plans[0] == plans[1] != plans[2]
    assert (plans[0]["trials"], plans[0]["items"], plans[0]["asked"], plans[0]["judged"]) == (5, 2, 10, 0)
    temperatures = [value["sampling_params.temperature"] for value in plans[0]["settings"]]
    assert len(set(temperatures)) == 5
    assert all(0 <= value <= 2 for value in temperatures)


def test_trials_that_cannot_win_are_stopped_early(daemon: Daemon, client: httpx.Client) -> None:
    eval_id = make(client)
    items = [{"item": {"country": "France", "capital": "Paris"}} for _ in range(12)]
    search = found(
        daemon,
        client,
        eval_id,
        data_source=asking(*items),
        parameters={PROMPT: [LONG, SHORT, "What of {{item.country}}?", "{{item.country}}!"]},
        halving={"first": 3, "factor": 4},
    )
    assert [(trial["status"], trial["done"]) for trial in search["trials"]] == [
        ("completed", 12),
        ("stopped", 3),
        ("stopped", 3),
        ("stopped", 3),
    ]
    assert search["trials"][0]["settings"] == {PROMPT: SHORT}
    canceled_runs = client.get(f"/v1/evals/{eval_id}/runs", params={"status": "canceled"}).json()["data"]
    assert len(canceled_runs) == 3


@pytest.mark.parametrize(
    ("wish", "code", "words"),
    [
        ({"parameters": {"sampling_params.temprature": [1]}}, "unknown_field", "'temperature'"),
        ({"parameters": {"modell": ["clerk"]}}, "place_not_found", "'model'"),
        ({"parameters": {"model": ["clerk", "clark"]}}, "model_not_found", "'clerk'"),
        ({"parameters": {"apps.atlaz.answer.user": ["x"]}}, "app_not_found", "'atlas'"),
        ({"parameters": {"apps.atlas.anser.user": ["x"]}}, "place_not_found", "'answer'"),
        ({"parameters": {"apps.atlas.answer.usr": ["x"]}}, "unknown_field", "'user'"),
        ({"parameters": {"input_messages.template[3].content": ["x"]}}, "place_not_found", "'3'"),
        ({"parameters": {PROMPT: ["{{item.contry}}"]}}, "unknown_field", "'country'"),
        ({"parameters": {"sampling_params.seed": list(range(1000)), "sampling_params.top_k": list(range(1000))}},
         "grid_too_large", "1,000,000 combinations"),
        ({"parameters": {"sampling_params.seed": {"min": 0, "max": 1}}}, "invalid_value", "'random'"),
        ({"parameters": {"model": []}}, "invalid_value", "at least one value"),
        ({"parameters": {"model": ["clerk"]}, "objective": "equals"}, "invalid_value", "equal"),
        ({"parameters": {"model": ["clerk"]}, "seeds": 1}, "unknown_field", "'seed'"),
        ({}, "missing_required_parameter", "parameters"),
    ],
)  # fmt: skip
def test_an_invalid_search_is_refused_before_any_model_call(
    client: httpx.Client, wish: dict[str, Any], code: str, words: str
) -> None:
    eval_id = make(client)
    answer = client.post(f"/api/evals/{eval_id}/search", json={"data_source": asking(), **wish})
    assert answer.status_code in (400, 404), answer.text
    error = answer.json()["error"]
    assert error["code"] == code, error
    assert words in error["message"]
    assert client.get(f"/api/evals/{eval_id}/searches").json()["data"] == []


def test_another_keys_search_does_not_exist(daemon: Daemon, client: httpx.Client) -> None:
    eval_id = make(client)
    search = begin(client, eval_id, parameters={"model": ["clerk"]})
    with native(daemon, "tester") as tester_client:
        path = f"/api/evals/{eval_id}/searches/{search['id']}"
        assert tester_client.get(path).status_code == 404
        assert tester_client.post(f"{path}/cancel").status_code == 404
        assert tester_client.post(f"/api/evals/{eval_id}/search", json={}).status_code == 404


def measure(metric: str, **more: Any) -> dict[str, Any]:
    return {"type": "retrieval", "name": metric, "metric": metric, "relevant": "item.files", **more}


QUESTIONS = [
    {"item": {"question": "Which port does the daemon listen on?", "files": "port.md"}},
    {"item": {"question": "How hot is bread baked?", "files": ["bread.txt", "oven.txt"]}},
    {"item": {"question": "How hot is bread baked?", "files": {"bread.txt": 2, "port.md": 1}}},
    {"item": {"question": "How hot is bread baked?", "files": []}},
]

FINDING = {
    "type": "retrieval",
    "store": "handbook",
    "query": "{{item.question}}",
    "search_params": {"ranker": "lexical", "max_num_results": 1},
    "source": {"type": "file_content", "content": QUESTIONS},
}


def test_a_store_is_evaluated_by_the_files_that_it_finds(daemon: Daemon, client: httpx.Client) -> None:
    names = ("recall", "mrr", "ndcg", "precision", "hit")
    eval_id = make(client, *(measure(name, k=2) for name in names))
    new_run = client.post(f"/v1/evals/{eval_id}/runs", json={"data_source": FINDING}).json()
    ended(daemon, new_run["run_id"])
    outputs = client.get(f"/v1/evals/{eval_id}/runs/{new_run['id']}/output_items").json()["data"]
    scores = [
        {criterion_result["name"]: criterion_result["score"] for criterion_result in output["results"]}
        for output in outputs
    ]
    assert scores[0] == {"recall": 1, "mrr": 1, "ndcg": 1, "precision": 0.5, "hit": 1}
    assert scores[1]["recall"] == 0.5
    assert scores[1]["ndcg"] == pytest.approx(1 / (1 + 1 / math.log2(3)))
    assert scores[2]["ndcg"] == pytest.approx(2 / (2 + 1 / math.log2(3)))
    assert [output["status"] for output in outputs] == ["pass", "pass", "pass", "error"]
    assert outputs[0]["sample"]["retrieved"][0]["filename"] == "port.md"
    assert "no relevant files" in outputs[3]["results"][0]["error"]["message"]


def test_a_search_can_vary_the_search_parameters_of_a_store(daemon: Daemon, client: httpx.Client) -> None:
    eval_id = make(client, measure("recall"))
    source = {**FINDING, "source": {"type": "file_content", "content": [
        {"item": {"question": "bread ovens and ports", "files": ["bread.txt", "port.md"]}}
    ]}}  # fmt: skip
    search = found(
        daemon,
        client,
        eval_id,
        data_source=source,
        parameters={"search_params.max_num_results": [1, 5], "search_params.ranker": ["lexical"]},
    )
    assert [trial["score"] for trial in search["trials"]] == [1.0, 0.5]
    wrong = {"data_source": source, "parameters": {"search_params.ranker": ["lexicle"]}}
    refusal = client.post(f"/api/evals/{eval_id}/search", json=wrong)
    assert (refusal.status_code, refusal.json()["error"]["param"]) == (400, "search_params.ranker")


def test_the_chat_of_a_store_is_judged_by_what_it_cites(daemon: Daemon, client: httpx.Client) -> None:
    eval_id = make(client, measure("hit"))
    source = asking(QUESTIONS[0], model="handbook", prompt="{{item.question}}")
    new_run = client.post(f"/v1/evals/{eval_id}/runs", json={"data_source": source}).json()
    ended(daemon, new_run["run_id"])
    run = client.get(f"/v1/evals/{eval_id}/runs/{new_run['id']}").json()
    assert (run["result_counts"]["passed"], run["items"]) == (1, 1), run


def until_done(daemon: Daemon, run_id: str, count: int) -> None:
    with native(daemon) as client, client.stream("GET", f"/api/runs/{run_id}/events") as answer:
        for line in answer.iter_lines():
            if line.startswith("data: ") and json.loads(line[6:]).get("done", 0) >= count:
                return
    raise AssertionError("the search ended first")


@pytest.mark.slow
@pytest.mark.process
def test_a_search_resumes_after_the_daemon_is_killed_and_is_cancelled(home: Path) -> None:
    arguments = (home / "second", "--file", str(home / "portico.yaml"))
    items = [{"item": {"country": f"slow {n}", "capital": "slow"}} for n in range(6)]
    slow = asking(*items, prompt="{{item.country}}")
    with daemons.running(*arguments) as daemon, native(daemon) as client:
        eval_id = make(client)
        search = begin(client, eval_id, data_source=slow, parameters={"sampling_params.seed": [1, 2]})
        until_done(daemon, search["run_id"], 7)
        daemon.stop(signal.SIGKILL)
    with daemons.running(*arguments) as daemon, native(daemon) as client:
        ended(daemon, search["run_id"])
        search_after = client.get(f"/api/evals/{eval_id}/searches/{search['id']}").json()
        assert (search_after["status"], [trial["done"] for trial in search_after["trials"]]) == (
            "completed",
            [6, 6],
        )
        runs = [
            client.get(f"/v1/evals/{eval_id}/runs/{trial['id']}").json() for trial in search_after["trials"]
        ]
        assert [run["per_model_usage"][0]["invocation_count"] for run in runs] == [6, 6]

        another = begin(
            client, eval_id, data_source=slow, parameters={"sampling_params.seed": list(range(50))}
        )
        until_done(daemon, another["run_id"], 1)
        path = f"/api/evals/{eval_id}/searches/{another['id']}"
        cancelled = client.post(f"{path}/cancel").json()
        assert cancelled["status"] == "canceled"
        assert {trial["status"] for trial in cancelled["trials"]} == {"canceled"}
        assert client.post(f"{path}/cancel").status_code == 409
        assert client.post(f"{path}/apply", json={}).status_code == 409
        assert client.delete(f"/v1/evals/{eval_id}").json()["deleted"]
