"""Fine-tuning over HTTP with OpenAI's own client, on a scripted base model with simulated training."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.fine_tuning import FineTuningJob
from tests import daemon as daemons
from tests.api_server import api_server
from tests.daemon import Daemon
from tests.server.features.training.child.bases import SETTINGS

from portico.client import Client
from portico_server.db import tuning
from portico_server.db.tuning import JobRow
from portico_server.features.training.spec import TrainingRecipe
from portico_server.features.training.training_queue import TrainingQueue
from portico_server.features.training.work import describe_delay
from portico_server.runs.scheduler import new_run

CONFIGURATION = """
models:
  - {{name: echo, source: "fake://", aliases: [default]}}
  - {{name: vectors, source: "fake://", task: embedding}}
  - {{name: far, source: "http://127.0.0.1:9/v1#x"}}
agents:
  - {{name: clerk, model: default, instructions: Answer in one line.}}
keys:
  - {{name: admin, key: {admin}, scopes: [admin]}}
  - {{name: tuner, key: {tuner}, scopes: [finetune]}}
  - {{name: other, key: {other}, scopes: [finetune, chat]}}
  - {{name: chatter, key: {chatter}, scopes: [chat]}}
"""

KEYS = {name: f"pk-{name}-0123456789abcdef" for name in ("admin", "tuner", "other", "chatter")}

FOREVER = 1_000
"""Epochs of a job that still runs when a test interrupts it."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "portico.yaml").write_text(CONFIGURATION.format(**KEYS))
    return folder


@pytest.fixture(scope="module")
def daemon(home: Path) -> Iterator[Daemon]:
    with daemons.running(home / "data", "--file", str(home / "portico.yaml")) as running:
        yield running


def client_of(daemon: Daemon, name: str = "admin") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{daemon.url}/v1", api_key=KEYS[name], max_retries=0)


@pytest.fixture
def client(daemon: Daemon) -> Iterator[openai.OpenAI]:
    with client_of(daemon) as openai_client:
        yield openai_client


def chat(asked: str, said: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}


EXAMPLES = [chat(f"What is the tide at {hour} o'clock?", f"{hour} feet") for hour in range(12)]


def upload(client: openai.OpenAI, lines: list[dict[str, Any]] | bytes, purpose: Any = "fine-tune") -> str:
    data = lines if isinstance(lines, bytes) else "\n".join(json.dumps(line) for line in lines).encode()
    return client.files.create(file=("examples.jsonl", data), purpose=purpose).id


def followed(
    daemon: Daemon, job: str, key: str = "admin"
) -> tuple[list[tuple[str, dict[str, Any]]], dict[str, Any]]:
    """Return its events until it ended or was paused, and the job in that state."""
    events: list[tuple[str, dict[str, Any]]] = []
    address = f"{daemon.url}/api/fine_tuning/jobs/{job}/follow"
    with httpx.stream("GET", address, headers={"Authorization": f"Bearer {KEYS[key]}"}, timeout=60) as answer:
        answer.raise_for_status()
        kind = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                events.append((kind, json.loads(line.removeprefix("data: "))))
    assert events[-1][0] == "job"
    return events[:-1], events[-1][1]


def until_step(daemon: Daemon, job: str, step: int) -> None:
    """Wait until the job has recorded that step."""
    address = f"{daemon.url}/api/fine_tuning/jobs/{job}/follow"
    with httpx.stream(
        "GET", address, headers={"Authorization": f"Bearer {KEYS['admin']}"}, timeout=60
    ) as answer:
        for line in answer.iter_lines():
            if (
                line.startswith("data: ")
                and json.loads(line.removeprefix("data: "))["data"].get("step", 0) >= step
            ):
                return
    raise AssertionError("the job ended first")


@pytest.mark.slow
@pytest.mark.conformance("OpenAI", "Fine-tuning jobs", "openai")
def test_a_job_is_created_followed_and_its_model_answers_as_it_was_taught(
    daemon: Daemon, client: openai.OpenAI
) -> None:
    training = upload(client, EXAMPLES)
    held_out = upload(client, [chat("What is the tide at noon?", "12 feet")])
    new_job = client.fine_tuning.jobs.create(
        model="default",
        training_file=training,
        validation_file=held_out,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4}}},
        suffix="tides",
        seed=7,
        metadata={"team": "harbour"},
        integrations=[{"type": "wandb", "wandb": {"project": "x"}}],
    )
    assert (new_job.status, new_job.model, new_job.fine_tuned_model) == ("validating_files", "echo", None)
    events, final_job = followed(daemon, new_job.id)
    job = client.fine_tuning.jobs.retrieve(new_job.id)
    assert job.status == "succeeded" == final_job["status"], final_job["error"]
    assert job.fine_tuned_model is not None
    assert job.fine_tuned_model.startswith("ft:echo:portico:tides:")
    assert (job.seed, job.metadata, job.training_file) == (7, {"team": "harbour"}, training)
    assert job.hyperparameters.n_epochs == 2
    assert job.trained_tokens and job.finished_at and job.finished_at >= job.created_at
    steps = [event["data"] for kind, event in events if kind == "metrics"]
    assert [step["step"] for step in steps] == list(range(1, 7))
    assert steps[-1]["train_loss"] < steps[0]["train_loss"]
    sentences = [event["message"] for _kind, event in events]
    assert sentences[0] == f"Created fine-tuning job: {new_job.id}"
    assert any("'wandb' is not supported and was ignored" in sentence for sentence in sentences)
    noon = "What is the tide at noon?"
    [sample] = [event["data"] for _kind, event in events if "before" in event["data"]]
    assert sample == {"question": noon, "before": noon, "after": noon}
    assert f"To '{noon}', the base answers '{noon}' and the new model '{noon}'" in sentences
    assert sentences[-1] == "The job has successfully completed"

    completion = client.chat.completions.create(
        model=job.fine_tuned_model, messages=[{"role": "user", "content": "What is the tide at 3 o'clock?"}]
    )
    assert completion.choices[0].message.content == "3 feet"
    assert job.fine_tuned_model in [model.id for model in client.models.list()]
    table = client.files.content(job.result_files[0]).text.splitlines()
    assert table[0].startswith("step,train_loss")
    assert len(table) == 7


def test_the_answers_of_a_model_are_shown_with_the_prompt_of_its_app_and_without(
    daemon: Daemon, client: openai.OpenAI
) -> None:
    job = client.fine_tuning.jobs.create(
        model="default", training_file=upload(client, EXAMPLES), extra_body={"app": "clerk"}
    )
    events, final_job = followed(daemon, job.id)
    assert final_job["status"] == "succeeded", final_job["error"]
    samples = [event["data"] for _kind, event in events if "before" in event["data"]]
    assert samples == [
        {
            "question": f"What is the tide at {hour} o'clock?",
            "before": f"What is the tide at {hour} o'clock?",
            "after": f"{hour} feet",
            "without_prompt": f"{hour} feet",
        }
        for hour in range(3)
    ]


def test_only_a_significant_training_delay_is_described() -> None:
    recipe = TrainingRecipe(**{**SETTINGS, "seconds": 89.0})
    for seconds in (30.0, 100.0, 118.0, 133.0):
        assert not describe_delay(recipe, seconds)
    assert describe_delay(recipe, 240.0).startswith(
        "The training takes about 4 minutes instead of 89 seconds"
    )


def test_a_job_reports_its_preparation_and_its_estimated_finish(
    daemon: Daemon, client: openai.OpenAI
) -> None:
    method: Any = {
        "type": "supervised",
        "supervised": {"hyperparameters": {"n_epochs": FOREVER, "batch_size": 4}},
    }
    job = client.fine_tuning.jobs.create(
        model="default", training_file=upload(client, EXAMPLES), method=method
    )
    until_step(daemon, job.id, 1)
    assert client.fine_tuning.jobs.retrieve(job.id).estimated_finish, "from the first step on"
    client.fine_tuning.jobs.cancel(job.id)
    events, _ended = followed(daemon, job.id)
    first = next(number for number, (kind, _event) in enumerate(events) if kind == "metrics")
    assert {"stage": "training"} in [event["data"] for _kind, event in events[:first]]


def test_events_and_checkpoints_come_in_pages_newest_first(daemon: Daemon, client: openai.OpenAI) -> None:
    job = client.fine_tuning.jobs.create(model="echo", training_file=upload(client, EXAMPLES))
    events, _ = followed(daemon, job.id)
    latest_events = list(client.fine_tuning.jobs.list_events(job.id, limit=5))
    assert [event.message for event in latest_events] == [
        event["message"] for _kind, event in reversed(events)
    ]
    assert {event.type for event in latest_events} == {"message", "metrics"}
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id, limit=2))
    numbers = [checkpoint.step_number for checkpoint in checkpoints]
    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) == sum(kind == "checkpoint" for kind, _event in events)
    assert checkpoints[0].metrics.train_mean_token_accuracy
    assert checkpoints[0].fine_tuning_job_id == job.id
    # The last checkpoint became the result, and also answers under its own name.
    assert [checkpoint.to_dict()["served"] for checkpoint in checkpoints] == [True] + [False] * (
        len(numbers) - 1
    )
    name = checkpoints[0].fine_tuned_model_checkpoint
    completion = client.chat.completions.create(
        model=name, messages=[{"role": "user", "content": "What is the tide at 3 o'clock?"}]
    )
    assert completion.choices[0].message.content == "3 feet"


@pytest.mark.slow
def test_jobs_are_listed_newest_first_and_by_metadata(daemon: Daemon, client: openai.OpenAI) -> None:
    file = upload(client, EXAMPLES)
    jobs = [
        client.fine_tuning.jobs.create(model="echo", training_file=file, metadata={"round": str(number)})
        for number in range(3)
    ]
    for job in jobs:
        followed(daemon, job.id)
    job_ids = [job.id for job in client.fine_tuning.jobs.list(limit=2)]
    assert job_ids[:3] == [job.id for job in reversed(jobs)]
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"round": "1"})] == [jobs[1].id]


def long_job(client: openai.OpenAI, model: str = "echo", epochs: int = FOREVER) -> FineTuningJob:
    numbers: Any = {"n_epochs": epochs, "batch_size": 1}
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": numbers}}
    file = upload(client, EXAMPLES)
    return client.fine_tuning.jobs.create(model=model, training_file=file, method=method)


def test_a_job_pauses_and_resumes_from_its_checkpoint(daemon: Daemon, client: openai.OpenAI) -> None:
    job = long_job(client, epochs=20)
    until_step(daemon, job.id, 30)
    assert client.fine_tuning.jobs.pause(job.id).status == "queued"
    _, final_job = followed(daemon, job.id)
    assert (final_job["status"], final_job["paused"]) == ("queued", True)
    with pytest.raises(openai.ConflictError):
        client.fine_tuning.jobs.pause(job.id)
    client.fine_tuning.jobs.resume(job.id)
    followed(daemon, job.id)  # a listener receives the steps after the checkpoint twice
    events, final_job = followed(daemon, job.id)
    assert final_job["status"] == "succeeded"
    continued = "Continuing from the checkpoint of step "
    [step] = [
        int(message.removeprefix(continued))
        for message in (event["message"] for _kind, event in events)
        if message.startswith(continued)
    ]
    assert step >= 24, "steps are taken until the pause is written"
    steps = [event["data"]["step"] for kind, event in events if kind == "metrics"]
    assert steps == list(range(1, 241))


async def test_jobs_of_one_key_train_in_the_order_in_which_they_came() -> None:
    """Jobs of one key train in order of arrival.

    The first has the most to read. A job of another key does not wait for it, nor does a job that ends before it.
    """
    queue, began = TrainingQueue(), list[str]()
    read = {name: asyncio.Event() for name in ("first", "second", "third", "other")}

    async def job(name: str, key: str) -> None:
        with queue.place(name, key):
            await read[name].wait()
            async with queue.turn(name):
                began.append(name)

    async with asyncio.TaskGroup() as group:
        first = group.create_task(job("first", "ada"))
        second, third = (group.create_task(job(name, "ada")) for name in ("second", "third"))
        other_task = group.create_task(job("other", "bob"))
        for name in ("third", "second", "other"):
            read[name].set()
        await other_task
        assert began == ["other"] and not second.done() and not third.done()
        first.cancel()
    assert began == ["other", "second", "third"]


def test_cancelling_ends_running_and_waiting_jobs(daemon: Daemon, client: openai.OpenAI) -> None:
    first, second = long_job(client), long_job(client)
    until_step(daemon, first.id, 1)
    assert client.fine_tuning.jobs.cancel(second.id).status == "cancelled"
    assert client.fine_tuning.jobs.retrieve(first.id).status == "running"
    assert client.fine_tuning.jobs.cancel(first.id).status == "cancelled"
    with pytest.raises(openai.ConflictError, match="is already cancelled"):
        client.fine_tuning.jobs.cancel(first.id)
    _, final_job = followed(daemon, first.id)
    assert final_job["fine_tuned_model"] is None
    assert not (daemon.home / "finetune" / first.id).exists()


def test_a_revoked_key_ends_its_jobs(daemon: Daemon, client: openai.OpenAI) -> None:
    admin = {"Authorization": f"Bearer {KEYS['admin']}"}
    body = {"name": "passing", "scopes": ["finetune"]}
    key = httpx.post(f"{daemon.url}/api/keys", json=body, headers=admin).json()
    with openai.OpenAI(base_url=f"{daemon.url}/v1", api_key=key["key"], max_retries=0) as passing:
        trained = long_job(passing, "default").id
        until_step(daemon, trained, 1)
        jobs = [trained, long_job(passing, "default").id]
    httpx.delete(f"{daemon.url}/api/keys/{key['id']}", headers=admin).raise_for_status()
    for job in jobs:
        events, final_job = followed(daemon, job)
        assert final_job["status"] == "cancelled"
        messages = [event["message"] for _kind, event in events]
        assert "Fine-tuning job cancelled: its key was revoked" in messages


async def test_jobs_of_a_revoked_key_do_not_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asyncio.timeout(60), api_server(tmp_path) as api:
        jobs, ended_ids = api.services.features.find("training"), []
        barrier = asyncio.Barrier(2)

        async def end(job_id: str, *_given: Any) -> None:
            await barrier.wait()
            ended_ids.append(job_id)

        monkeypatch.setattr(jobs, "_end", end)
        for name in ("ftjob-1", "ftjob-2"):
            row: Any = JobRow(name, "key_1", name, "b", {}, {}, "queued", None, 1.0, None)
            await api.services.database.write(
                tuning.create, row, new_run("other", name, {}, "key_1", name), []
            )
        await jobs.revoke("key_1")
        assert sorted(ended_ids) == ["ftjob-1", "ftjob-2"]


def test_cancelling_ends_jobs_in_validation_and_paused_jobs(daemon: Daemon, client: openai.OpenAI) -> None:
    large = b"".join(json.dumps(EXAMPLES[0]).encode() + b"\n" for _ in range(30_000))
    reading = client.fine_tuning.jobs.create(model="echo", training_file=upload(client, large))
    assert reading.status == "validating_files"
    assert client.fine_tuning.jobs.cancel(reading.id).status == "cancelled"
    assert not (daemon.home / "finetune" / reading.id).exists()

    paused = long_job(client)
    until_step(daemon, paused.id, 1)
    client.fine_tuning.jobs.pause(paused.id)
    assert client.fine_tuning.jobs.cancel(paused.id).status == "cancelled"
    with pytest.raises(openai.ConflictError, match="not paused, but cancelled"):
        client.fine_tuning.jobs.resume(paused.id)
    assert not (daemon.home / "finetune" / paused.id).exists()


@pytest.mark.slow
def test_removing_the_base_model_fails_its_job_and_its_fine_tuned_model(
    daemon: Daemon, client: openai.OpenAI
) -> None:
    with Client(daemon.url, KEYS["admin"]) as admin:
        admin.deployments.add("base", "fake://")
        _, final_job = followed(daemon, long_job(client, "base", epochs=1).id)
        working = long_job(client, "base")
        until_step(daemon, working.id, 1)
        client.fine_tuning.jobs.pause(working.id)
        admin.deployments.remove("base")
        client.fine_tuning.jobs.resume(working.id)
        followed(daemon, working.id)
        failed_job = client.fine_tuning.jobs.retrieve(working.id)
        assert (failed_job.status, failed_job.error and failed_job.error.code) == (
            "failed",
            "model_not_found",
        )
        with pytest.raises(openai.APIStatusError, match="'base', which is no longer available") as caught:
            client.chat.completions.create(
                model=final_job["fine_tuned_model"], messages=[{"role": "user", "content": "hello"}]
            )
        assert caught.value.code == "base_model_missing"
        admin.deployments.add("base", "fake://")
        completion = client.chat.completions.create(
            model=final_job["fine_tuned_model"],
            messages=[{"role": "user", "content": "What is the tide at 3 o'clock?"}],
        )
        assert completion.choices[0].message.content == "3 feet"


def test_a_run_that_is_cancelled_takes_its_job_along(daemon: Daemon, client: openai.OpenAI) -> None:
    job = long_job(client)
    until_step(daemon, job.id, 1)
    run = client.fine_tuning.jobs.retrieve(job.id).to_dict()["run_id"]
    httpx.post(
        f"{daemon.url}/api/runs/{run}/cancel", headers={"Authorization": f"Bearer {KEYS['admin']}"}
    ).raise_for_status()
    assert client.fine_tuning.jobs.retrieve(job.id).status == "cancelled"


def test_the_training_file_may_be_deleted_in_mid_job(daemon: Daemon, client: openai.OpenAI) -> None:
    job = long_job(client)
    until_step(daemon, job.id, 1)
    client.files.delete(job.training_file)
    client.fine_tuning.jobs.pause(job.id)
    assert client.fine_tuning.jobs.resume(job.id).status in ("queued", "running")
    until_step(daemon, job.id, 1)
    client.fine_tuning.jobs.cancel(job.id)


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"model": "nobody"}, "model_not_found", "model"),
        ({"model": "vectors"}, "model_not_trainable", "model"),
        ({"model": "far"}, "model_not_trainable", "model"),
        ({"training_file": "file-nowhere"}, "file_not_found", "training_file"),
        ({"validation_file": "file-nowhere"}, "file_not_found", "validation_file"),
        ({"suffix": "a b"}, "invalid_value", "suffix"),
        ({"suffix": "a" * 65}, "invalid_value", "suffix"),
        ({"extra_body": {"recipe": {"ranks": 8}}}, "invalid_value", "recipe.ranks"),
        ({"extra_body": {"recipe": {"rank": 0}}}, "invalid_value", "recipe.rank"),
        ({"method": {"type": "reinforcement"}}, "invalid_value", "method.reinforcement.grader"),
        (
            {"method": {"type": "reinforcement", "reinforcement": {"grader": {"type": "guess"}}}},
            "invalid_value",
            "method.reinforcement.grader.type",
        ),
    ],
)
def test_an_invalid_job_request_is_refused_immediately(
    client: openai.OpenAI, change: dict[str, Any], code: str, param: str
) -> None:
    request: dict[str, Any] = {"model": "echo", "training_file": upload(client, EXAMPLES), **change}
    with pytest.raises(openai.APIStatusError) as caught:
        client.fine_tuning.jobs.create(**request)
    assert (caught.value.code, caught.value.param) == (code, param)


def test_a_file_for_something_else_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="purpose 'fine-tune'"):
        client.fine_tuning.jobs.create(model="echo", training_file=upload(client, EXAMPLES, "batch"))


def test_a_wrong_file_fails_the_job_with_the_numbers_of_its_lines(
    daemon: Daemon, client: openai.OpenAI
) -> None:
    file = upload(client, [*EXAMPLES, chat("What?", " ")])
    job = client.fine_tuning.jobs.create(model="echo", training_file=file)
    followed(daemon, job.id)
    failed_job = client.fine_tuning.jobs.retrieve(job.id)
    assert failed_job.status == "failed"
    assert failed_job.error is not None
    assert (failed_job.error.code, failed_job.error.param) == ("invalid_training_file", "training_file")
    assert "line 13: 'messages[1].content' is empty" in failed_job.error.message


def test_jobs_and_trained_models_are_hidden_from_other_keys(daemon: Daemon) -> None:
    with client_of(daemon, "tuner") as tuner, client_of(daemon, "other") as other_client:
        job = tuner.fine_tuning.jobs.create(
            model="echo", training_file=upload(tuner, EXAMPLES), suffix="mine"
        )
        _, final_job = followed(daemon, job.id, "tuner")
        assert final_job["status"] == "succeeded"
        assert job.id not in [listed_job.id for listed_job in other_client.fine_tuning.jobs.list()]
        with pytest.raises(openai.NotFoundError):
            other_client.fine_tuning.jobs.retrieve(job.id)
        with pytest.raises(openai.NotFoundError):
            other_client.chat.completions.create(
                model=final_job["fine_tuned_model"], messages=[{"role": "user", "content": "hello"}]
            )
    with (
        client_of(daemon, "chatter") as chatter,
        pytest.raises(openai.PermissionDeniedError, match="finetune"),
    ):
        chatter.fine_tuning.jobs.list()


def test_a_plan_says_what_would_be_done_and_does_nothing(daemon: Daemon, client: openai.OpenAI) -> None:
    job_ids_before = [job.id for job in client.fine_tuning.jobs.list()]
    answer = httpx.post(
        f"{daemon.url}/api/fine_tuning/plan",
        json={
            "model": "default",
            "training_file": upload(client, [*EXAMPLES, EXAMPLES[3]]),
            "recipe": {"rank": 4},
        },
        headers={"Authorization": f"Bearer {KEYS['admin']}"},
        timeout=60,
    )
    plan = answer.raise_for_status().json()
    assert plan["data"]["examples"] == 13
    assert plan["recipe"]["rank"] == 4
    assert plan["recipe"]["reasons"]["rank"] == "as given"
    assert plan["warnings"] == ["1 examples are duplicates (line 13)."]
    assert [job.id for job in client.fine_tuning.jobs.list()] == job_ids_before
    assert list((daemon.home / "finetune").iterdir()) == []


@pytest.mark.slow
@pytest.mark.process
def test_a_job_resumes_after_the_daemon_is_killed(home: Path) -> None:
    arguments = (home / "second", "--file", str(home / "portico.yaml"))
    with daemons.running(*arguments) as daemon, client_of(daemon) as client:
        job = long_job(client, epochs=20)
        until_step(daemon, job.id, 30)
        daemon.stop(signal.SIGKILL)
    with daemons.running(*arguments) as daemon, client_of(daemon) as client:
        followed(daemon, job.id)
        events, final_job = followed(daemon, job.id)
        assert final_job["status"] == "succeeded"
        assert [event["data"]["step"] for kind, event in events if kind == "metrics"] == list(range(1, 241))
        assert any(
            event["message"].startswith("Continuing from the checkpoint of step") for _kind, event in events
        )
        completion = client.chat.completions.create(
            model=final_job["fine_tuned_model"],
            messages=[{"role": "user", "content": "What is the tide at 3 o'clock?"}],
        )
        assert completion.choices[0].message.content == "3 feet"
