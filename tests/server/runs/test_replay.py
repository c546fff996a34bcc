"""Recorded runs of ten apps, replayed without calling a model, a store, a tool or a person."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.recorded_apps import NAMES, QUESTIONS, question, record, run, serving

from portico import Client
from portico.errors import Conflict, Forbidden, InvalidRequest, NotFound
from portico.flow import (
    agent,
    flow,
    input,
    llm,
    pipeline,
    subflow,
    template,
    tool,
    warp,
)
from portico.schemas.runs import Replay
from portico.wire import Asked


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serving(tmp_path_factory.mktemp("notes")) as client:
        yield client


def statuses(replay: Replay) -> dict[str, str]:
    return {step.path: step.status for step in replay.steps}


@pytest.mark.parametrize("name", NAMES)
def test_five_runs_of_each_app_replay_equally(client: Client, name: str) -> None:
    for text in QUESTIONS:
        recording = record(client, name, question(name, text))
        replay = client.runs.replay(recording)
        assert replay.is_equal, [step for step in replay.steps if step.status != "same"]
        assert replay.first is None
        assert set(statuses(replay).values()) == {"same"}
        recorded_result, replayed_result = replay.recorded["result"], replay.replayed["result"]
        if name == "helper":  # its answer is a message with a time
            recorded_result, replayed_result = recorded_result["content"], replayed_result["content"]
        assert recorded_result
        assert json.dumps(recorded_result) == json.dumps(replayed_result)


def test_a_replay_adds_nothing_to_the_session(client: Client) -> None:
    recording = record(client, "helper", "remember this")
    [session] = client.sessions.list(app="helper", name="talk")
    message_count = len(client.sessions.messages(session.id))
    assert client.runs.replay(recording).is_equal
    assert len(client.sessions.messages(session.id)) == message_count


def test_a_changed_prompt_is_located_at_its_step(client: Client) -> None:
    recording = record(client, "story", {"topic": "soup"})
    prompt = {"$template": "write a poem about {title}", "$with": {"title": {"$ref": "item"}}}
    changed_replay = client.runs.replay(recording, changes={"chapters.step.user": prompt})
    assert not changed_replay.is_equal
    assert changed_replay.first == 1
    assert statuses(changed_replay) == {
        "story.titles": "same",
        "story.chapters[0].step": "changed",
        "story.chapters[1].step": "changed",
    }
    step = changed_replay.steps[1]
    assert step.recorded is not None
    assert step.replayed is not None
    assert step.recorded["request"]["messages"] != step.replayed["request"]["messages"]
    assert step.recorded["result"] == step.replayed["result"]


def test_a_replay_with_another_model_reports_the_changed_steps(client: Client) -> None:
    recording = record(client, "clock", "")
    exchanged = client.runs.replay(recording, model="other")
    assert statuses(exchanged) == {"clock.now": "same", "clock.greeting": "changed"}
    assert exchanged.replayed["result"] == "another answer"


def test_a_replay_can_search_the_current_store(client: Client) -> None:
    recording = record(client, "cited", "port")
    assert client.runs.replay(recording, store="notes").is_equal
    with pytest.raises(NotFound, match="'gone'"):
        client.runs.replay(recording, store="gone")


def test_a_replay_can_use_a_chosen_version_of_the_app(client: Client) -> None:
    client.apps.deploy("poet", flow(llm(user=template("a poem: {x}", x=input)), name="poet"))
    recording = record(client, "poet", "rain")
    client.apps.deploy("poet", flow(llm(user=template("a song: {x}", x=input)), name="poet"))
    assert client.runs.replay(recording).is_equal, "the recorded version runs"
    assert client.runs.replay(recording, version=2).first == 0
    assert client.runs.replay(recording, current=True).first == 0
    assert client.runs.replay(recording, version=1, current=True).is_equal
    with pytest.raises(NotFound, match="no version 7"):
        client.runs.replay(recording, version=7)


def test_a_replay_reports_steps_that_are_missing_or_new(client: Client) -> None:
    client.apps.deploy("two", flow(pipeline(one=llm(), more=llm()), name="two"))
    recording = record(client, "two", "x")
    client.apps.deploy("two", flow(pipeline(one=llm()), name="two"))
    shorter = client.runs.replay(recording, current=True)
    assert statuses(shorter) == {"two.one": "same", "two.more": "missing"}
    client.apps.deploy("two", flow(pipeline(one=llm(), more=llm(), third=llm()), name="two"))
    longer = client.runs.replay(recording, current=True)
    assert statuses(longer) == {"two.one": "same", "two.more": "same", "two.third": "new"}
    assert "two.third" in longer.replayed["error"]


def test_errors_are_recorded_and_replayed(client: Client) -> None:
    broken_tool = tool("calculator", expression="1/0").on_error("none")
    client.apps.deploy("broken", flow(pipeline(sum=broken_tool, say=llm(user="ok")), name="broken"))
    assert client.runs.replay(record(client, "broken", "")).is_equal


def test_a_cached_step_replays_with_and_without_its_value(client: Client) -> None:
    client.apps.deploy("cached", flow(llm().cache(), name="cached"))
    for _ in range(2):
        assert client.runs.replay(record(client, "cached", "same question")).is_equal


def test_an_undeployed_flow_carries_its_specification(client: Client) -> None:
    running = client.start(llm(user="hello {name}"), {"name": "Ada"})
    running.result()
    assert running.id
    assert client.runs.replay(client.runs.recording(running.id)).is_equal


def test_a_function_of_the_client_is_not_called_again(client: Client) -> None:
    calls: list[str] = []
    lock = threading.Lock()

    def count(text: str) -> int:
        with lock:  # a lock cannot be sent, so the function runs in this process
            calls.append(text)
        return len(calls)

    running = client.start(flow(pipeline(count=count, say=llm()), name="counting"), "x")
    running.result()
    assert running.id
    assert client.runs.replay(client.runs.recording(running.id)).is_equal
    assert calls == ["x"]


def test_a_durable_run_replays_in_memory(client: Client) -> None:
    steps = pipeline(ask=agent("clerk"), inner=subflow("clock"), last=llm())
    client.apps.deploy("lasting", flow(steps, name="lasting", durability="normal"))
    recording = record(client, "lasting", "hello")
    run_ids_before = {run.id for run in client.runs.list()}
    replay = client.runs.replay(recording)
    assert replay.is_equal, [step for step in replay.steps if step.status != "same"]
    assert {run.id for run in client.runs.list()} == run_ids_before


def test_a_guarded_app_replays_behind_its_guard(client: Client) -> None:
    client.apps.deploy("masked", flow(llm(system="Repeat it."), name="masked", redact=["pin"]))
    recording = record(client, "masked", "write to ada@example.org")
    assert "[EMAIL" in json.dumps(recording["steps"])
    assert recording["redacted"] == ["pin"]
    assert client.runs.replay(recording).is_equal


def test_missing_parts_are_named_together(client: Client) -> None:
    client.apps.deploy("inner", flow(llm(), name="inner"))
    client.apps.deploy("outer", flow(agent("inner"), name="outer"))
    recording = record(client, "outer", "hi")
    client.apps.remove("outer")
    client.apps.remove("inner")
    with pytest.raises(NotFound) as caught:
        client.runs.replay(recording, model="absent")
    assert all(name in caught.value.message for name in ("'outer'", "'inner'", "'absent'"))


def test_recordings_contain_no_secrets(client: Client) -> None:
    client.apps.deploy(
        "secretive",
        flow(
            llm(user="for {name}: {pin}, {api_key}"),
            name="secretive",
            redact=["pin"],
        ),
    )
    token = "ghp_" + "x7Kq2Lm9Zp4Rt6Wv1Bn3" * 2
    value = {"name": f"Ada with {token[:40]}", "pin": "4711-pin", "api_key": "sk-verysecret"}
    recording = record(client, "secretive", value)
    text = json.dumps(recording)
    assert "4711-pin" not in text
    assert "sk-verysecret" not in text
    assert token[:40] not in text
    assert "Ada" in text
    assert client.runs.replay(recording).is_equal


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.update(format=9), "format 9"),
        (lambda file: file.pop("steps"), "steps"),
        (lambda file: file["steps"][0]["request"].update(type="Nonsense"), "Nonsense"),
        (lambda file: file["request"].update(value={"other": 1}), "value"),
        (lambda file: file["steps"][0]["result"].update(type="Chat"), "where it cannot be|not valid"),
    ],
    ids=["another format", "no steps", "an unknown type", "a wrong request", "a wrong result"],
)
def test_invalid_recordings_are_refused(
    client: Client, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    recording = copy.deepcopy(record(client, "clock", ""))
    change(recording)
    with pytest.raises(InvalidRequest, match=message):
        client.runs.replay(recording)


def test_requesting_a_missing_recording_gives_the_reason(client: Client) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        client.runs.recording("run_" + "0" * 32)
    running = client.apps.start("review", "x")
    events = running.events()
    question = next(event for event in events if isinstance(event, Asked))
    assert running.id
    with pytest.raises(Conflict, match="not ended"):
        client.runs.recording(running.id)
    client.questions.answer(question.id, accepted=True)
    list(events)


def test_too_many_calls_are_not_recorded(client: Client) -> None:
    client.apps.deploy("many", flow(warp(tool("calculator", expression="1+1")), name="many"))
    with pytest.raises(NotFound, match="too large"):
        record(client, "many", list(range(1_001)))


def test_only_the_owner_of_an_app_reads_its_recordings_and_replays(client: Client) -> None:
    scopes = ["apps:*:call", "apps:*:deploy", "tools:*:call", "chat"]
    key = client.keys.add("guest", scopes)
    with Client(client.url, key=key.key) as guest:
        guest.apps.deploy("mine", flow(pipeline(inner=subflow("clock")), name="mine"))
        run_ids = [run(guest, "clock", ""), run(guest, "mine", "")]
        for run_id in run_ids:
            with pytest.raises(Forbidden, match="only their owners"):
                guest.runs.recording(run_id)
        recordings = [client.runs.recording(run_id) for run_id in run_ids]
        with pytest.raises(Forbidden):
            guest.runs.replay(recordings[0])
        hidden = guest.runs.replay(recordings[1])
        assert all(step.status == "missing" for step in hidden.steps)
        assert "only the owner" in hidden.replayed["error"]
    assert recordings[0]["app"]["name"] == "clock"
    assert client.runs.replay(recordings[0]).is_equal
