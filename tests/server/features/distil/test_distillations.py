"""Distillation over HTTP, on scripted models with simulated training.

The simulated training learns questions literally. The held-back calls ask learned questions under other instructions.
"""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import daemon as daemons
from tests.daemon import Daemon

LABELS = ("refund", "delivery", "invoice", "other")

CONFIGURATION = """
models:
  - {name: large, source: "fake://%s"}
  - {name: small, source: "fake://"}
"""

STAGES = ("data", "training", "judging", "canary")


def script(first: str = "refund") -> str:
    """Return the script of the large model, which answers tickets of the first kind with ``first``."""
    labels = (first, *LABELS[1:])
    return "\n".join(
        f'- {{match: "about {kind}", content: "{label}"}}' for kind, label in zip(LABELS, labels, strict=True)
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distil")
    (folder / "large.yaml").write_text(script())
    (folder / "portico.yaml").write_text(CONFIGURATION % (folder / "large.yaml"))
    return folder


def started(home: Path, data: str) -> Any:
    return daemons.running(home / data, "--file", str(home / "portico.yaml"))


def api(daemon: Daemon, method: str, path: str, body: Any = None, status: int = 200) -> Any:
    answer = httpx.request(method, f"{daemon.url}{path}", json=body, timeout=60)
    assert answer.status_code == status, answer.text
    return answer.json()


def said(client: httpx.Client, question: str, **more: Any) -> str:
    messages = [
        {"role": "system", "content": str(more.pop("system", "Label the ticket."))},
        {"role": "user", "content": question},
    ]
    answer = client.post("/v1/chat/completions", json={"model": "desk", "messages": messages, **more})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


QUESTIONS = [f"Ticket {number} is about {LABELS[number % 4]}" for number in range(50)]


def use(daemon: Daemon, alias: str = "desk") -> None:
    """Send 300 calls of a narrow task to the large model, which callers allow to store."""
    api(daemon, "PUT", f"/api/aliases/{alias}", {"target": "large"})
    with httpx.Client(base_url=daemon.url, timeout=60) as client:
        for question in QUESTIONS:
            for desk in range(6):
                said(client, question, system=f"Label the tickets of desk {desk}.", store=True)


def events(daemon: Daemon, run: str) -> Iterator[Mapping[str, Any]]:
    with httpx.stream("GET", f"{daemon.url}/api/runs/{run}/events", timeout=60) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                yield json.loads(line[6:])


def until_stage(daemon: Daemon, run: str, stage: str) -> None:
    """Wait until a run works on a stage or has ended."""
    for event in events(daemon, run):
        if event.get("stage") == stage:
            return


def follow(daemon: Daemon, run: str) -> None:
    for _event in events(daemon, run):
        pass


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize(
    "stages",
    [
        pytest.param(STAGES[1:2], id="training"),
        pytest.param(STAGES, id="each stage"),
    ],
)
def test_a_distillation_resumes_after_kills_is_promoted_and_rolled_back_on_drift(
    home: Path, stages: tuple[str, ...]
) -> None:
    data = "-".join(stages)
    (home / "large.yaml").write_text(script())
    with started(home, data) as daemon:
        use(daemon)
        options = {"onto": "small", "weight": 0.9, "sample": 1, "epochs": 20}
        run = str(api(daemon, "POST", "/api/distillations/desk", options, 202)["run"])
        until_stage(daemon, run, stages[0])
        daemon.stop(signal.SIGKILL)
    for stage in stages[1:]:
        with started(home, data) as daemon:
            until_stage(daemon, run, stage)
            daemon.stop(signal.SIGKILL)
    with started(home, data) as daemon:
        follow(daemon, run)
        report = api(daemon, "GET", "/api/distillations/desk")
        assert (report["status"], report["error"], report["stage"]) == ("completed", None, "canary")
        assert (report["training"], report["held_back"], report["omitted"]) == (210, 90, 0)
        assert (report["local_share"], report["canary"], report["calls"]) == (1, "running", 0)
        assert report["agreement"] >= 0.95
        # Each stage left one result.
        assert len(api(daemon, "GET", "/v1/fine_tuning/jobs")["data"]) == 1
        assert len(api(daemon, "GET", "/api/canaries/desk/history")["data"]) == 1
        with httpx.Client(base_url=daemon.url, timeout=60) as client:
            questions = itertools.cycle(QUESTIONS)
            while (report := api(daemon, "GET", "/api/distillations/desk"))["canary"] == "running":
                assert said(client, next(questions)) in LABELS
            assert report["canary"] == "promoted" and report["live_agreement"] >= 0.95
            said(client, QUESTIONS[0], store=True)
            [newest] = api(daemon, "GET", "/v1/chat/completions?order=desc&limit=1")["data"]
            assert newest["model"] == report["model"]
            error = api(daemon, "POST", "/api/distillations/desk", {"onto": "small"}, 409)["error"]
            assert error["code"] == "canary_running"
            # Nine of ten calls on the average, by chance.
            assert report["local_calls"] > 0.5 * report["calls"] and report["saved_cost"] is None
            (home / "large.yaml").write_text(script("credit"))
            api(daemon, "POST", "/api/deployments/large/unload")
            while (report := api(daemon, "GET", "/api/distillations/desk"))["canary"] == "promoted":
                said(client, next(questions))
            assert report["canary"] == "rolled_back"
            assert said(client, "Ticket 0 is about refund") == "credit"


@pytest.mark.process
def test_an_impossible_distillation_is_refused_with_the_reason(home: Path) -> None:
    with started(home, "refused") as daemon:
        error = api(daemon, "POST", "/api/distillations/desk", {"onto": "small"}, 404)["error"]
        assert error["code"] == "alias_not_found"
        api(daemon, "PUT", "/api/aliases/desk", {"target": "large"})
        assert (
            api(daemon, "GET", "/api/distillations/desk", status=404)["error"]["code"]
            == "distillation_not_found"
        )
        error = api(daemon, "POST", "/api/distillations/desk", {"onto": "nothing"}, 404)["error"]
        assert "nothing" in error["message"]
        run = str(api(daemon, "POST", "/api/distillations/desk", {"onto": "small"}, 202)["run"])
        follow(daemon, run)
        report = api(daemon, "GET", "/api/distillations/desk")
        assert (report["status"], report["stage"]) == ("failed", None)
        assert "at least 50" in report["error"]
