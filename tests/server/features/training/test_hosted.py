"""Fine-tuning at a provider through the same endpoints: converted, mirrored, served, and recovered after ``kill
-9``.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.features.training.providers import HELD_AT, KEY, NAMES, STEPS, TOKENS, Provider, providers

from portico.client import Client

PREFIXES = dict(zip(NAMES, ("v1", "api/paas/v4", "compatible-mode/v1", "compatible-mode/v1"), strict=True))
POLL = {"PORTICO_TUNING_POLL": "0.05"}
WRONG_KEY = "sk-a-key-that-is-not-right"
CHAT = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "When is high tide?"},
        {"role": "assistant", "content": "At noon."},
    ]
}
OTHER = {
    "messages": [{"role": "user", "content": "Is it deep?"}, {"role": "assistant", "content": "Three feet."}]
}
PAIR = {
    "input": {"messages": CHAT["messages"][:2]},
    "preferred_output": [{"role": "assistant", "content": "At noon."}],
    "non_preferred_output": [{"role": "assistant", "content": "I do not know."}],
}


def configuration(url: str) -> str:
    """Return a configuration with a base model at each provider, and some invalid ones."""
    models: list[dict[str, Any]] = [
        {
            "name": f"{name}-base",
            "source": f"remote://{name}/some-model",
            "api_key": KEY,
            "parameters": {"base_url": f"{url}/{name}/{prefix}", "training_price": 8.0},
        }
        for name, prefix in PREFIXES.items()
    ]
    models.append({**models[0], "name": "mistaken", "api_key": WRONG_KEY})
    models.append({**models[2], "name": "unknown", "source": "remote://dashscope/no-such-model"})
    models.append({"name": "unkeyed", "source": "remote://zhipu/some-model"})
    models.append({"name": "house", "source": f"{url}/openai/v1#some-model", "api_key": KEY})
    models[-1]["parameters"] = {"tuning": "openai"}
    return yaml.safe_dump({"models": models})


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, dict[str, Provider]]]:
    with providers() as provider_server:
        yield provider_server


@pytest.fixture
def there(server: tuple[str, dict[str, Provider]]) -> dict[str, Provider]:
    """The state of each provider, new for each test."""
    server[1].update({name: Provider() for name in NAMES})
    return server[1]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, server: tuple[str, dict[str, Provider]]) -> Path:
    path = tmp_path_factory.mktemp("hosted") / "models.yaml"
    path.write_text(configuration(server[0]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def daemon(file: Path) -> Iterator[Daemon]:
    with daemons.running(file.parent / "data", "--file", str(file), env=POLL) as running:
        yield running


def client_of(daemon: Daemon) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{daemon.url}/v1", api_key="none", max_retries=0)


@pytest.fixture
def client(daemon: Daemon) -> Iterator[openai.OpenAI]:
    with client_of(daemon) as openai_client:
        yield openai_client


def upload(client: openai.OpenAI, *lines: dict[str, Any]) -> str:
    data = "\n".join(json.dumps(line) for line in lines).encode()
    return client.files.create(file=("examples.jsonl", data), purpose="fine-tune").id


def begin(client: openai.OpenAI, model: str, *lines: dict[str, Any], **more: Any) -> str:
    file = upload(client, *(lines or (CHAT,)))
    return client.fine_tuning.jobs.create(model=model, training_file=file, suffix="tides", **more).id


def followed(daemon: Daemon, job: str) -> Generator[dict[str, Any], None, None]:
    """Yield its events as they arrive, then return the job."""
    address = f"{daemon.url}/api/fine_tuning/jobs/{job}/follow"
    with httpx.stream("GET", address, timeout=90) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def end_of(daemon: Daemon, job: str) -> dict[str, Any]:
    *_events, final_job = followed(daemon, job)
    return final_job


def until(daemon: Daemon, job: str, words: str) -> None:
    """Wait for an event whose message contains ``words``."""
    events = followed(daemon, job)
    assert next((event for event in events if words in event.get("message", "")), None), words
    events.close()


STALLS = {
    "openai": ("files", "fine_tuning/jobs"),
    "zhipu": ("files", "fine_tuning/jobs"),
    "dashscope": ("files", "fine-tunes", "deployments"),
    "sensenova": ("datasets", "fine-tunes", "servings"),
}
"""POSTs that a provider has executed when the daemon dies before receiving the answer."""


@pytest.mark.process
@pytest.mark.parametrize("name", NAMES)
def test_a_daemon_killed_between_steps_repeats_no_upload_job_or_deployment(
    name: str, tmp_path: Path, file: Path, there: dict[str, Provider]
) -> None:
    provider = there[name]
    arguments = (tmp_path / "data", "--file", str(file))
    job = ""
    for step in STALLS[name]:
        provider.stalls, provider.stalled, provider.released = step, threading.Event(), threading.Event()
        with daemons.running(*arguments, env=POLL) as daemon, client_of(daemon) as client:
            job = job or begin(client, f"{name}-base")
            assert provider.stalled.wait(60), step
            daemon.stop(signal.SIGKILL)
        provider.released.set()
    with daemons.running(*arguments, env=POLL) as daemon, client_of(daemon) as client:
        final_job = end_of(daemon, job)
        assert final_job["status"] == "succeeded", final_job["error"]
        counts = (len(provider.files), len(provider.jobs), len(provider.datasets), len(provider.served))
        assert counts == (1, 1, int(name == "sensenova"), int(name in ("dashscope", "sensenova")))
        reply = client.chat.completions.create(
            model=final_job["fine_tuned_model"], messages=[{"role": "user", "content": "Hi"}]
        )
        expected_model = provider.jobs[0].model + ("-deployed" if name == "dashscope" else "")
        assert reply.choices[0].message.content == f"I am {expected_model}."


@pytest.mark.process
def test_mirrored_events_are_not_duplicated_after_a_kill_in_mid_job(
    tmp_path: Path, file: Path, there: dict[str, Provider]
) -> None:
    there["openai"].held = True
    arguments = (tmp_path / "data", "--file", str(file))
    with daemons.running(*arguments, env=POLL) as daemon, client_of(daemon) as client:
        source = upload(client, CHAT)
        job = client.fine_tuning.jobs.create(model="openai-base", training_file=source).id
        until(daemon, job, f"Step {HELD_AT}")
        client.files.delete(source)
        daemon.stop(signal.SIGKILL)
    there["openai"].held = False
    with daemons.running(*arguments, env=POLL) as daemon:
        *events, final_job = followed(daemon, job)
        assert final_job["status"] == "succeeded", final_job["error"]
        steps = [event["data"]["step"] for event in events if event["type"] == "metrics"]
        assert steps == list(range(1, STEPS + 1))
    assert len(there["openai"].jobs) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_job_is_converted_mirrored_and_priced_and_its_result_is_a_model(
    name: str, daemon: Daemon, client: openai.OpenAI, there: dict[str, Provider]
) -> None:
    *events, final_job = followed(daemon, begin(client, f"{name}-base"))
    assert final_job["status"] == "succeeded", final_job["error"]
    silent = name == "sensenova"  # this provider reports no steps and tokens
    measured = [event["data"] for event in events if event["type"] == "metrics"]
    assert [(measurement["step"], measurement["train_loss"]) for measurement in measured] == (
        []
        if silent
        else [(step, round(2.0 / step, 4 if name == "dashscope" else 17)) for step in range(1, 5)]
    )
    assert (final_job["trained_tokens"], final_job["cost"]) == (
        (None, None) if silent else (TOKENS, TOKENS * 8e-6)
    )
    model = final_job["fine_tuned_model"]
    assert model.startswith(f"ft:{name}-base:portico:tides:")
    reply = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}])
    assert there[name].jobs[0].model in str(reply.choices[0].message.content)
    table = client.files.content(final_job["result_files"][0]).text
    assert table.startswith("step,train_loss") and len(table.splitlines()) == len(measured) + 1
    assert list(there[name].files.values()) == [[CHAT["messages"] if silent else CHAT]]
    with Client(daemon.url) as ours:
        assert ours.tuning.get(final_job["id"]).cost == final_job["cost"]
    assert KEY not in json.dumps([events, final_job])


@pytest.mark.parametrize("name", NAMES)
def test_cancelling_a_job_cancels_it_at_the_provider_too(
    name: str, daemon: Daemon, client: openai.OpenAI, there: dict[str, Provider]
) -> None:
    there[name].held = True
    job = begin(client, f"{name}-base")
    until(daemon, job, "The job is")
    assert client.fine_tuning.jobs.cancel(job).status == "cancelled"
    assert [provider_job.status for provider_job in there[name].jobs] == ["cancelled"]


def test_a_job_that_is_cancelled_while_it_begins_does_not_stay_at_the_provider(
    daemon: Daemon, client: openai.OpenAI, there: dict[str, Provider]
) -> None:
    provider = there["openai"]
    provider.held, provider.stalls = True, "fine_tuning/jobs"
    job = begin(client, "openai-base")
    assert provider.stalled.wait(60)
    cancelling = threading.Thread(target=client.fine_tuning.jobs.cancel, args=(job,))
    cancelling.start()
    provider.released.set()
    cancelling.join()
    assert [provider_job.status for provider_job in provider.jobs] == ["cancelled"]


def test_a_job_that_is_cancelled_at_the_provider_is_cancelled_in_the_daemon(
    daemon: Daemon, client: openai.OpenAI, there: dict[str, Provider]
) -> None:
    there["zhipu"].held = True
    job = begin(client, "zhipu-base")
    until(daemon, job, f"Step {HELD_AT}")
    there["zhipu"].jobs[0].status = "cancelled"
    assert end_of(daemon, job)["status"] == "cancelled"


def test_an_openai_compatible_server_can_train_and_receives_the_validation_file(
    daemon: Daemon, client: openai.OpenAI, there: dict[str, Provider]
) -> None:
    job = begin(
        client,
        "house",
        validation_file=upload(client, OTHER),
        seed=7,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
    )
    assert end_of(daemon, job)["status"] == "succeeded"
    provider = there["openai"]
    assert list(provider.files.values()) == [[CHAT], [OTHER]]
    request = provider.jobs[0].asked
    assert (request["training_file"], request["validation_file"], request["seed"]) == ("file-1", "file-2", 7)
    assert request["method"]["supervised"]["hyperparameters"] == {"n_epochs": 2}
    assert request["metadata"] == {"portico_job": job}


def test_provider_errors_are_retried_without_duplicate_jobs_or_files(
    daemon: Daemon, client: openai.OpenAI, there: dict[str, Provider]
) -> None:
    there["dashscope"].statuses = [429, 503, 200, 500, 502]
    final_job = end_of(daemon, begin(client, "dashscope-base"))
    assert final_job["status"] == "succeeded", final_job["error"]
    assert len(there["dashscope"].jobs) == len(there["dashscope"].files) == 1


@pytest.mark.parametrize(("name", "wanted"), [("openai", PAIR), ("dashscope", None)])
def test_preference_pairs_are_converted(
    name: str,
    wanted: dict[str, Any] | None,
    daemon: Daemon,
    client: openai.OpenAI,
    there: dict[str, Provider],
) -> None:
    final_job = end_of(daemon, begin(client, f"{name}-base", PAIR, method={"type": "dpo"}))
    assert final_job["status"] == "succeeded", final_job["error"]
    [lines] = there[name].files.values()
    preferred_answer, other_answer = PAIR["preferred_output"][0], PAIR["non_preferred_output"][0]
    assert lines == [
        wanted or {"messages": CHAT["messages"][:2], "chosen": preferred_answer, "rejected": other_answer}
    ]


def test_provider_errors_are_reported_verbatim_without_the_api_key(
    daemon: Daemon, client: openai.OpenAI, there: dict[str, Provider]
) -> None:
    there["dashscope"].fails = "The data is too short."
    failed_job = end_of(daemon, begin(client, "dashscope-base"))
    assert (failed_job["status"], failed_job["error"]["code"]) == ("failed", "training_failed")
    assert "The data is too short." in failed_job["error"]["message"]
    *events, refused_job = followed(daemon, begin(client, "mistaken"))
    assert refused_job["error"]["code"] == "invalid_provider_key"
    assert "Incorrect API key provided: ***" in refused_job["error"]["message"]
    assert WRONG_KEY not in json.dumps([events, refused_job])
    there["zhipu"].refuses = "The file has too few lines."
    unread = end_of(daemon, begin(client, "zhipu-base"))
    assert unread["error"]["code"] == "refused_by_provider"
    assert "The file has too few lines." in unread["error"]["message"]
    absent = end_of(daemon, begin(client, "unknown"))
    assert "no-such-model does not exist" in absent["error"]["message"]


def test_a_job_lost_by_the_provider_fails_but_temporary_key_refusals_are_retried(
    daemon: Daemon, client: openai.OpenAI, there: dict[str, Provider]
) -> None:
    provider = there["openai"]
    provider.held = True
    job = begin(client, "openai-base")
    until(daemon, job, f"Step {HELD_AT}")
    provider.keyed = False
    until(daemon, job, "will be polled again")
    provider.keyed = True
    provider.jobs.clear()
    lost_job = end_of(daemon, job)
    assert (lost_job["status"], lost_job["error"]["code"]) == ("failed", "hosted_job_gone")
    assert "The job 'ftjob-1' no longer exists at" in lost_job["error"]["message"]


def test_examples_that_a_provider_would_change_are_refused_by_their_number(
    daemon: Daemon, client: openai.OpenAI, there: dict[str, Provider]
) -> None:
    messages = CHAT["messages"]
    weighted = {"messages": [*messages[:2], {**messages[2], "weight": 0}, *messages[1:]]}
    weighted_job = end_of(daemon, begin(client, "zhipu-base", CHAT, weighted))
    assert weighted_job["error"]["code"] == "invalid_training_file"
    assert "Example 2: 'zhipu' trains on every answer" in weighted_job["error"]["message"]
    tools = [{"type": "function", "function": {"name": "tide", "parameters": {"type": "object"}}}]
    tools_job = end_of(daemon, begin(client, "sensenova-base", {**CHAT, "tools": tools}))
    assert "'sensenova' cannot train on tools" in tools_job["error"]["message"]
    assert not there["zhipu"].files and not there["sensenova"].files


def test_settings_the_provider_does_not_support_are_refused_before_upload(
    daemon: Daemon, client: openai.OpenAI, there: dict[str, Provider]
) -> None:
    def hyper(**numbers: float) -> dict[str, Any]:
        return {"type": "supervised", "supervised": {"hyperparameters": numbers}}

    wrong: list[tuple[str, dict[str, Any], str, str]] = [
        (
            "zhipu-base",
            {"method": {"type": "dpo"}},
            "'zhipu' supports training with supervised, not with dpo",
            "method.type",
        ),
        ("openai-base", {"extra_body": {"recipe": {"rank": 8}}}, "is trained at openai", "recipe"),
        ("openai-base", {"extra_body": {"launcher": "local"}}, "is trained at openai", "launcher"),
        (
            "dashscope-base",
            {"method": hyper(learning_rate_multiplier=2)},
            "'dashscope' does not support 'learning_rate_multiplier'.*batch_size, n_epochs",
            "learning_rate_multiplier",
        ),
        ("sensenova-base", {"method": hyper(n_epochs=2)}, "It sets all of them itself", "n_epochs"),
        ("unkeyed", {}, "'unkeyed' needs a key.*ZHIPUAI_API_KEY", "model"),
    ]
    for model, options, words, param in wrong:
        with pytest.raises(openai.BadRequestError, match=words) as caught:
            begin(client, model, **options)
        assert caught.value.param == param
    there["openai"].held = True
    job = begin(client, "openai-base")
    with pytest.raises(openai.ConflictError, match="cannot be paused"):
        client.fine_tuning.jobs.pause(job)
    client.fine_tuning.jobs.cancel(job)
    assert not any(there[name].files for name in ("zhipu", "dashscope", "sensenova"))
