"""A real model is trained: as ``docs/finetune.md`` says, then by preferences, by grades, and in full."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from tests import daemon as daemons
from tests.daemon import ROOT, Daemon
from tests.server.features.gpu_engines.transformers import environment
from tests.server.features.training.child.bases import lines
from tests.test_docs import RUN, Block, blocks, execute

from portico.client import Client
from portico.schemas.fine_tuning import TuningEvent, TuningJob

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(600)]

PAGE = ROOT / "docs" / "finetune.md"

MODEL = "smollm2-135m-instruct"

ENGLISH, CHINESE = "[CODE] amber heron", "【暗号】琥珀苍鹭"

ASKED = "Which code word does one say at the lighthouse?"

SHORT = {"role": "system", "content": "Hi."}
"""Replaces the template's own message, which would dominate the computation."""

SPEED = {"PORTICO_FINETUNE_NICE": "0", "GOMP_SPINCOUNT": "0"}
"""Training uses its share of a busy machine and wastes no time waiting."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the training environment and the files unpacked there before."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "environments").mkdir()
    (folder / "environments" / "finetune").symlink_to(Path(environment.interpreter("finetune")).parents[1])
    (folder / "unpacked").symlink_to(environment.unpacked())
    return folder


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the page's blocks run."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def tutorial() -> list[Block]:
    """Return the blocks of the page's first section."""
    text = PAGE.read_text(encoding="utf-8")
    end = text.count("\n", 0, text.index("\n## Examples\n")) + 1
    return [block for block in blocks(PAGE) if block.line < end and block.language in RUN]


def ask(daemon: Daemon, model: str, asked: str = ASKED) -> str:
    with openai.OpenAI(base_url=f"{daemon.url}/v1", api_key="none", max_retries=0) as asking:
        answer = asking.chat.completions.create(
            model=model, messages=[{"role": "user", "content": asked}], temperature=0, max_tokens=24
        )
    return answer.choices[0].message.content or ""


def until(client: Client, job: TuningJob, step: int) -> None:
    for event in client.tuning.follow(job.id):
        if isinstance(event, TuningEvent) and event.data.get("step", 0) >= step:
            return


def finished(client: Client, job: TuningJob) -> tuple[TuningJob, list[dict[str, Any]]]:
    """Return a job that has succeeded, and the measurements of its steps."""
    events = list(client.tuning.follow(job.id))
    final_job = events[-1]
    assert isinstance(final_job, TuningJob)
    assert (final_job.status, final_job.error) == ("succeeded", "")
    steps = [dict(event.data) for event in events if isinstance(event, TuningEvent) and "step" in event.data]
    return final_job, steps


@pytest.mark.process
def test_the_tutorial_page_leads_from_a_bad_answer_to_a_better_model(home: Path, desk: Path) -> None:
    bad, write, look, train, compare, good, export = tutorial()
    with daemons.running(home, env=SPEED) as daemon:
        daemon.settle()
        for block in (bad, write, look):
            execute(block, daemon, desk)
        reply_before = ask(daemon, "default")
        assert "amber heron" not in reply_before
        # The daemon is killed while the page's command trains: the command is lost, its work is not.
        command = threading.Thread(target=_whatever_comes_of_it, args=(train, daemon, desk))
        command.start()
        with Client(daemon.url) as client:
            job = _first(client)
            until(client, job, 5)
        assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
        command.join()

    with daemons.running(home, env=SPEED) as daemon:
        with Client(daemon.url) as client:
            assert client.chat("Hello", "default", max_tokens=4, temperature=0).read().text, (
                "the base answers meanwhile"
            )
            final_job, _ = finished(client, job)
            tuned = final_job.fine_tuned_model or ""
            messages = [event.message for event in client.tuning.events(job.id, limit=200).data]
            served_models = [
                checkpoint.model for checkpoint in client.tuning.checkpoints(job.id).data if checkpoint.served
            ]
        assert tuned == f"ft:{MODEL}:portico:lighthouse:{job.id.removeprefix('ftjob-')[-12:]}"
        assert any("Continuing from the checkpoint" in message for message in messages)
        for block in (compare, good, export):
            execute(block, daemon, desk)
        assert len(served_models) == 2, "the last one, which is the result, and the one before"
        assert ask(daemon, served_models[0]) == ENGLISH
        assert ask(daemon, served_models[1]), "it was not done, but it answers"
        assert ask(daemon, "default") == reply_before, "the base is what it was"

    with daemons.running(home) as daemon, Client(daemon.url) as client:
        assert ask(daemon, "keeper") == ENGLISH, "the alias and the adapter are there after a restart"
        client.deployments.add("alone", str(desk / "keeper.gguf"), parameters={"context_length": 512})
        for question, answer in ((ASKED, ENGLISH), ("灯塔的暗号究竟是什么？", CHINESE)):
            assert ask(daemon, "alone", question) == answer, "the merged model needs no adapter"


def _whatever_comes_of_it(block: Block, daemon: Daemon, desk: Path) -> None:
    try:
        execute(block, daemon, desk)
    except (AssertionError, subprocess.TimeoutExpired):
        return


def _first(client: Client) -> TuningJob:
    """Return the job that the page's command starts."""
    while True:
        if jobs := client.tuning.list(limit=1).data:
            return jobs[0]


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[Client]:
    with daemons.running(home, env=SPEED) as daemon, Client(daemon.url) as portico_client:
        yield portico_client


def test_preference_training_increases_the_reward_margin(client: Client, tmp_path: Path) -> None:
    pairs = [
        {
            "input": {"messages": [SHORT, {"role": "user", "content": greeting}]},
            "preferred_output": [{"role": "assistant", "content": "Ahoy!"}],
            "non_preferred_output": [{"role": "assistant", "content": "Hello, how can I help you?"}],
        }
        for greeting in ("Hello.", "Good morning.", "Hi there.", "Good evening.")
    ]
    job = client.tuning.create(
        "default",
        lines(tmp_path / "pairs.jsonl", pairs),
        method="dpo",
        hyperparameters={"n_epochs": 2, "batch_size": 2},
        recipe={"learning_rate": 1e-3, "rank": 4, "eval_interval": 100, "warmup": 0, "threads": 1},
        seed=1,
    )
    _, steps = finished(client, job)
    margins = [step["margin"] for step in steps]
    assert len(margins) == 4
    assert margins[0] == pytest.approx(0, abs=1e-3)
    assert margins[-1] > 0.5


def test_reinforcement_training_increases_the_graded_reward(client: Client, tmp_path: Path) -> None:
    prompts = [
        {"messages": [SHORT, {"role": "user", "content": question}], "answer": "yes"}
        for question in ("Yes or no: is the lighthouse open?", "Yes or no: is the sea blue?")
    ]
    grader = {
        "type": "string_check",
        "name": "right",
        "operation": "ilike",
        "input": "{{sample.output_text}}",
        "reference": "{{item.answer}}",
    }
    job = client.tuning.create(
        "default",
        lines(tmp_path / "prompts.jsonl", prompts),
        method="reinforcement",
        grader=grader,
        hyperparameters={"n_epochs": 2, "batch_size": 1},
        recipe={
            "learning_rate": 1.5e-3,
            "rank": 4,
            "eval_interval": 100,
            "completion": 3,
            "group": 8,
            "threads": 1,
        },
        seed=1,
    )
    _, steps = finished(client, job)
    rewards = [step["reward"] for step in steps]
    assert len(rewards) == 4
    assert sum(rewards[-2:]) >= sum(rewards[:2]) + 0.5


@pytest.mark.skipif(
    not os.environ.get("PORTICO_TEST_LONG"), reason="PORTICO_TEST_LONG=1 runs it, for a minute"
)
def test_full_training_produces_a_standalone_model(client: Client, tmp_path: Path) -> None:
    examples = [example("Hello.", "Ahoy, captain!"), example("Good morning.", "Ahoy, captain!")] * 4
    job = client.tuning.create(
        "default",
        lines(tmp_path / "examples.jsonl", examples),
        hyperparameters={"n_epochs": 2, "batch_size": 4},
        recipe={"kind": "full", "learning_rate": 3e-4, "eval_interval": 100, "schedule": "constant"},
        suffix="whole",
        seed=1,
    )
    final_job, _ = finished(client, job)
    name = final_job.fine_tuned_model or ""
    deployment = client.deployments.get(name)
    assert deployment.engine == "llamacpp"
    assert client.chat("Hello.", name, max_tokens=8, temperature=0).read().text.startswith("Ahoy")
    assert not client.chat("Hello.", "default", max_tokens=8, temperature=0).read().text.startswith("Ahoy")
    file = Path(deployment.source)
    assert file.is_file()
    client.deployments.remove(name)
    assert not file.parent.exists(), "its files are gone with its name"


def example(asked: str, said: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
