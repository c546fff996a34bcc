"""The small model that Portico includes learns a narrow task from the stored answers of a scripted larger model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.features.gpu_engines.transformers import environment

from portico.client import Client

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(1_800), pytest.mark.process]

SPEED = {"PORTICO_FINETUNE_NICE": "0", "GOMP_SPINCOUNT": "0"}
"""Training uses its share of a busy machine and wastes no time waiting."""

OPENINGS = ("Hello,", "Good day,", "Please help:", "Hi there,", "One question:")


@dataclass(frozen=True, slots=True)
class Task:
    """A narrow task: its instruction, 60 texts, and the rules of the larger model."""

    system: str
    texts: Sequence[str]
    rules: Sequence[dict[str, Any]]

    def questions(self) -> list[str]:
        """Return 300 questions: each text after each opening."""
        return [f"{opening} {text}" for text in self.texts for opening in OPENINGS]


THINGS = ("shoes", "lamp", "phone", "book", "chair")

EXTRACTION = Task(
    "To JSON.",
    [
        f"{count} {thing} for {name}"
        for count in (2, 3, 5, 7)
        for thing in THINGS
        for name in ("Ada", "Bob", "Eve")
    ],
    [{"match": r"(\d) (\w+) for (\w+)", "content": r'{"count": \1, "thing": "\2", "name": "\3"}'}],
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with the training environment and the files unpacked there before."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "environments").mkdir()
    (folder / "environments" / "finetune").symlink_to(Path(environment.interpreter("finetune")).parents[1])
    (folder / "unpacked").symlink_to(environment.unpacked())
    with daemons.running(folder, env=SPEED) as running:
        yield running


def ask(client: httpx.Client, alias: str, task: Task, question: str, *, store: bool = False) -> str:
    messages = [{"role": "system", "content": task.system}, {"role": "user", "content": question}]
    body = {
        "model": alias,
        "messages": messages,
        "temperature": 0,
        "max_completion_tokens": 48,
        "store": store,
    }
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def test_four_of_five_calls_are_answered_by_the_small_model_as_the_large_model_does(daemon: Daemon) -> None:
    name, task = "fields", EXTRACTION
    with Client(daemon.url) as client, httpx.Client(base_url=daemon.url, timeout=300) as http:
        client.deployments.add(f"large-{name}", "fake://", parameters={"script": list(task.rules)})
        client.models.alias(name, f"large-{name}")
        for question in task.questions():
            ask(http, name, task, question, store=True)
        run = client.distillations.start(name, "default", weight=0.99, epochs=1, rate=2)
        for _event in client.runs.events(run):
            pass
        distillation = client.distillations.get(name)
        assert (distillation.status, distillation.error) == ("completed", None)
        assert distillation.local_share is not None and distillation.local_share >= 0.8
        assert distillation.agreement is not None and distillation.agreement >= 0.95
        # Live calls that were never stored.
        same_count = 0
        questions = [f"Dear desk, {text}" for text in task.texts]
        for question in questions:
            same_count += ask(http, name, task, question) == ask(http, f"large-{name}", task, question)
        distillation = client.distillations.get(name)
        assert distillation.calls == len(questions) and distillation.local_calls >= 0.8 * distillation.calls
        assert same_count >= 0.95 * len(questions)
