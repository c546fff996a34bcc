"""Training with the prompts of a deployed app: the model is trained on the prompts that the app sends when it
serves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
import yaml
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.features.training.providers import NAMES, Provider, providers
from tests.server.features.training.test_hosted import POLL, begin, client_of, configuration, end_of

from portico.client import Client
from portico.errors import Conflict

INSTRUCTIONS = "You are the harbour's clerk. Answer in one sentence."
TIDE = [{"role": "user", "content": "When is high tide?"}]
ANSWER = {"role": "assistant", "content": "At noon."}


def agent(instructions: str) -> dict[str, Any]:
    return {"name": "clerk", "model": "openai-base", "instructions": instructions, "tools": ["current_time"]}


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, dict[str, Provider]]]:
    with providers() as provider_server:
        yield provider_server


@pytest.fixture
def provider(server: tuple[str, dict[str, Provider]]) -> Provider:
    server[1].update({name: Provider() for name in NAMES})
    return server[1]["openai"]


@pytest.fixture(scope="module")
def daemon(
    tmp_path_factory: pytest.TempPathFactory, server: tuple[str, dict[str, Provider]]
) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("asked")
    (home / "tides").mkdir()
    (home / "tides" / "tides.md").write_text("# Tides\n\nHigh tide is at noon, low tide at six.\n")
    ask = {"op": "llm", "model": "openai-base", "system": "Translate into German."}
    settings = yaml.safe_load(configuration(server[0]))
    settings["models"][0]["aliases"] = ["default"]
    settings |= {
        "agents": [agent(INSTRUCTIONS)],
        "apps": [
            {"name": "german", "flow": {"step": ask}},
            {"name": "mute", "flow": {"step": {"op": "code", "source": "lambda text: text.upper()"}}},
        ],
        "stores": [{"name": "tides", "folder": str(home / "tides")}],
    }
    (home / "portico.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    with daemons.running(home / "data", "--file", str(home / "portico.yaml"), env=POLL) as running:
        running.settle()
        yield running


@pytest.fixture
def client(daemon: Daemon) -> Iterator[openai.OpenAI]:
    with client_of(daemon) as openai_client:
        yield openai_client


@pytest.mark.parametrize("app", ["clerk", "german", "tides"])
def test_a_model_is_trained_on_the_prompts_that_the_app_writes_when_it_serves(
    app: str, daemon: Daemon, client: openai.OpenAI, provider: Provider
) -> None:
    job = begin(client, "openai-base", {"messages": [*TIDE, ANSWER]}, extra_body={"app": app})
    final_job = end_of(daemon, job)
    assert (final_job["status"], final_job["app"]) == ("succeeded", app), final_job["error"]
    [[line]] = provider.files.values()
    assert not provider.chats  # no model was called
    client.chat.completions.create(model=app, messages=TIDE)  # type: ignore[arg-type]
    chat = provider.chats[-1]
    assert line["messages"] == [*chat["messages"], ANSWER]
    assert line.get("tools") == chat.get("tools")
    assert line["messages"][:-1] != TIDE
    with Client(daemon.url) as ours:
        report = ours.tuning.check(job)
    assert (report.app, report.same, report.differences) == (app, True, ())
    assert (report.model, report.uses_result) == ("openai-base", False)


def test_a_check_reports_app_changes_and_whether_the_trained_model_is_used(
    daemon: Daemon, client: openai.OpenAI, provider: Provider
) -> None:
    job = begin(client, "openai-base", {"input": "When?", "answer": "At noon."}, extra_body={"app": "clerk"})
    result = end_of(daemon, job)["fine_tuned_model"]
    with Client(daemon.url) as ours:
        ours.apply({"agents": [{**agent(INSTRUCTIONS), "model": result}]})
        report = ours.tuning.check(job)
        assert (report.same, report.model, report.uses_result) == (True, result, True)
        assert report.version > report.trained_version
        ours.apply({"agents": [agent("Answer in verse.")]})
        report = ours.tuning.check(job)
        assert not report.same
        assert report.differences == ("Example 1: message 1 (system) has changed.",)
        ours.apply({"agents": [agent(INSTRUCTIONS)]})


def test_pairs_and_completions_get_the_prompts_of_the_app_too(
    daemon: Daemon, client: openai.OpenAI, provider: Provider
) -> None:
    pair = {
        "input": {"messages": TIDE},
        "preferred_output": [ANSWER],
        "non_preferred_output": [{"role": "assistant", "content": "Never."}],
    }
    options: dict[str, Any] = {"method": {"type": "dpo"}, "extra_body": {"app": "german"}}
    assert end_of(daemon, begin(client, "openai-base", pair, **options))["status"] == "succeeded"
    [[line]] = provider.files.values()
    assert line["preferred_output"] == [ANSWER]
    prompt = [message["content"] for message in line["input"]["messages"]]
    assert prompt == ["Translate into German.", "When is high tide?"]
    completion = {"prompt": "When is high tide?", "completion": "At noon."}
    assert end_of(daemon, begin(client, "openai-base", completion, extra_body={"app": "german"}))["model"]
    line = list(provider.files.values())[-1][0]
    assert [message["content"] for message in line["messages"]] == [*prompt, "At noon."]
    talk = {
        "messages": [*TIDE, {**ANSWER, "weight": 0}, {"role": "user", "content": "And low tide?"}, ANSWER]
    }
    assert end_of(daemon, begin(client, "openai-base", talk, extra_body={"app": "clerk"}))["model"]
    line = list(provider.files.values())[-1][0]
    assert [m for m in line["messages"] if m["role"] == "assistant"] == [{**ANSWER, "weight": 0}, ANSWER]


def test_an_app_that_cannot_be_trained_for_is_named(
    daemon: Daemon, client: openai.OpenAI, provider: Provider
) -> None:
    for app, code in (("nobody", "app_not_found"), ("openai-base", "not_an_app")):
        with pytest.raises(openai.BadRequestError) as caught:
            begin(client, "openai-base", extra_body={"app": app})
        assert (caught.value.code, caught.value.param) == (code, "app")
    failed_job = end_of(daemon, begin(client, "openai-base", extra_body={"app": "mute"}))
    assert failed_job["error"]["message"] == "Line 1: 'mute' answers without calling a model."
    talk = {"messages": [*TIDE, ANSWER, {"role": "user", "content": "And low tide?"}, ANSWER]}
    failed_job = end_of(
        daemon, begin(client, "openai-base", {"messages": [*TIDE, ANSWER]}, talk, extra_body={"app": "tides"})
    )
    assert failed_job["error"]["message"].startswith(
        "Line 2: 'tides' first rewrites a question that is part of a conversation"
    )
    failed_job = end_of(
        daemon, begin(client, "openai-base", {"messages": [ANSWER]}, extra_body={"app": "clerk"})
    )
    assert (
        failed_job["error"]["message"] == "Line 1: 'clerk' cannot be called: no message precedes the answer."
    )
    wrong: list[dict[str, Any]] = [
        {"messages": ["When?", ANSWER]},
        {"input": "When?"},
        {"messages": [], "input": "When?", "answer": "At noon."},
    ]
    failed_job = end_of(daemon, begin(client, "openai-base", *wrong, extra_body={"app": "german"}))
    assert failed_job["error"]["message"].startswith(
        "3 of 3 lines cannot be used for training: line 1: 'messages[0]'"
    )
    plain = begin(client, "openai-base")
    assert end_of(daemon, plain)["app"] is None
    with Client(daemon.url) as ours, pytest.raises(Conflict, match="created without 'app'"):
        ours.tuning.check(plain)
    assert httpx.post(f"{daemon.url}/api/fine_tuning/jobs/ftjob-none/check").status_code == 404
