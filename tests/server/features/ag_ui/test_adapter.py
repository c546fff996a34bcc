"""AG-UI, checked by its official types, which parse every event."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from ag_ui.core import (
    AssistantMessage,
    Context,
    Event,
    FunctionCall,
    Message,
    RunAgentInput,
    SystemMessage,
    Tool,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from pydantic import TypeAdapter
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.api.openai.conftest import KEYS, bearer

REPLIES = [
    {
        "match": r"^weather in (\w+)",
        "times": 1,
        "content": "Let me look.",
        "tool_calls": [{"name": "get_weather", "arguments": {"city": r"\1"}}],
    },
    {"match": r"^weather in", "content": "It rains."},
    {"match": r"^fail", "error": {"status": 429, "message": "Too many.", "code": "rate_limit_exceeded"}},
    {
        "match": r"^sum",
        "times": 1,
        "tool_calls": [{"name": "calculator", "arguments": {"expression": "6*7"}}],
    },
    {"match": r"^sum", "content": "It is 42."},
    {"match": r"^empty again", "tool_calls": [{"name": "empty", "arguments": {}}]},
    {"match": r"^empty", "times": 1, "tool_calls": [{"name": "empty", "arguments": {}}]},
    {"match": r"^empty", "content": "Done."},
]
KEY = {
    "name": "three",
    "key": "three-secret-key-of-the-tests",
    "scopes": ["chat", "apps:*:call", "tools:*:call"],
}
WEATHER = Tool(
    name="get_weather",
    description="The weather.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}},
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("ag-ui")
    docs = home / "handbook"
    docs.mkdir()
    (docs / "port.md").write_text("# Ports\n\nThe Lighthouse daemon listens on port 7419.\n")
    models = [
        {"name": "echo", "source": "fake://", "aliases": ["default"]},
        {"name": "clever", "source": "fake://", "parameters": {"script": {"replies": REPLIES}}},
        {"name": "vectors", "source": "fake://", "task": "embedding", "parameters": {"dimensions": 8}},
    ]
    agents = [
        {"name": "counter", "portico_agent": 1, "model": "clever", "tools": ["calculator"]},
        {"name": "janitor", "portico_agent": 1, "model": "clever", "tools": ["empty"]},
    ]
    tools = [{"name": "empty", "command": ["echo", "emptied"], "approval": "always"}]
    configuration = {"models": models, "agents": agents, "tools": tools, "keys": [*KEYS, KEY]}
    (home / "ag.yaml").write_text(json.dumps(configuration), encoding="utf-8")
    arguments = ("--file", str(home / "ag.yaml"), "--docs", str(docs))
    with daemons.running(home / "data", *arguments, env={"PORTICO_REQUIRE_KEY": "true"}) as running:
        with httpx.Client(base_url=running.url, headers=bearer("boss"), timeout=60) as plain:
            for run in plain.get("/api/status").json()["startup"]:
                plain.get(f"/api/runs/{run}/events")
        yield running


def events_of(
    daemon: Daemon, name: str, messages: list[Message], key: str = "boss", **more: Any
) -> Iterator[Event]:
    """Yield the events of a run, each parsed by the official types."""
    run_input = RunAgentInput(thread_id="thread", run_id="run", messages=messages, **more)
    body = run_input.model_dump(mode="json", by_alias=True)
    with httpx.stream(
        "POST", f"{daemon.url}/ag-ui/{name}", json=body, headers=bearer(key), timeout=60
    ) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                yield TypeAdapter(Event).validate_json(line.removeprefix("data: "))


def said(text: str) -> list[Message]:
    return [UserMessage(id="1", content=text)]


def text_of(events: list[Any]) -> str:
    return "".join(event.delta for event in events if event.type == "TEXT_MESSAGE_CONTENT")


def types_of(events: list[Any]) -> list[str]:
    type_names = [event.type.value for event in events]
    return [kind for number, kind in enumerate(type_names) if not number or type_names[number - 1] != kind]


@pytest.mark.slow
@pytest.mark.conformance("AG-UI", "Runs and events", "ag-ui-protocol")
def test_a_model_answers_in_events(daemon: Daemon) -> None:
    events: list[Any] = list(events_of(daemon, "echo", said("one two three"), state={"seen": 1}))
    assert types_of(events) == [
        "RUN_STARTED",
        "STATE_SNAPSHOT",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    assert text_of(events) == "one two three"
    assert (events[0].thread_id, events[0].run_id, events[0].protocol_version) == ("thread", "run", "1.0")
    assert events[1].snapshot == {"seen": 1}
    assert events[-1].outcome.type == "success" and not events[-1].outcome.pending_tool_call_ids
    assert events[-1].usage[0].output_tokens > 0 and events[-1].usage[0].model == "echo"
    run = httpx.get(f"{daemon.url}/api/runs/{events[0].metadata['run']}", headers=bearer("boss"), timeout=60)
    assert run.json()["kind"] == "ag-ui"


@pytest.mark.conformance("AG-UI", "Front-end tools", "ag-ui-protocol")
def test_front_end_tools_are_called_in_the_front_end(daemon: Daemon) -> None:
    messages = [SystemMessage(id="0", content="Be brief."), *said("weather in Rome")]
    context = [Context(description="The language", value="English")]
    events: list[Any] = list(events_of(daemon, "clever", messages, tools=[WEATHER], context=context))
    start = next(event for event in events if event.type == "TOOL_CALL_START")
    arguments = "".join(event.delta for event in events if event.type == "TOOL_CALL_ARGS")
    assert (start.tool_call_name, json.loads(arguments)) == ("get_weather", {"city": "Rome"})
    assert text_of(events) == "Let me look."
    assert events[-1].outcome.pending_tool_call_ids == [start.tool_call_id]
    called = FunctionCall(name="get_weather", arguments=arguments)
    following = [
        *messages,
        AssistantMessage(
            id="2", content="Let me look.", tool_calls=[ToolCall(id=start.tool_call_id, function=called)]
        ),
        ToolMessage(id="3", tool_call_id=start.tool_call_id, content="rain"),
    ]
    assert text_of(list(events_of(daemon, "clever", following, tools=[WEATHER]))) == "It rains."


def test_an_agent_shows_its_tools_and_an_app_its_passages(daemon: Daemon) -> None:
    events: list[Any] = list(events_of(daemon, "counter", said("sum it up")))
    start = next(event for event in events if event.type == "TOOL_CALL_START")
    result = next(event for event in events if event.type == "TOOL_CALL_RESULT")
    assert (start.tool_call_name, result.tool_call_id, "42" in result.content) == (
        "calculator",
        start.tool_call_id,
        True,
    )
    assert text_of(events).endswith("It is 42.") and not events[-1].outcome.pending_tool_call_ids
    began = [event.step_name for event in events if event.type == "STEP_STARTED"]
    finished_steps = [event.step_name for event in events if event.type == "STEP_FINISHED"]
    assert sorted(began) == sorted(finished_steps)
    app_events: list[Any] = list(
        events_of(daemon, "handbook", said("On which port does the Lighthouse daemon listen?"))
    )
    states = [event for event in app_events if event.type in ("STATE_SNAPSHOT", "STATE_DELTA")]
    assert states[0].snapshot["citations"][0]["filename"] == "port.md"
    assert app_events[-1].type == "RUN_FINISHED"


def test_a_run_that_asks_waits_for_its_front_end(daemon: Daemon) -> None:
    events: list[Any] = []
    for event in events_of(daemon, "janitor", said("empty it"), key="three"):
        events.append(event)
        if event.type == "CUSTOM" and event.name == "portico.asked":
            path = f"{daemon.url}/api/questions/{event.value['id']}/answer"
            httpx.post(path, json={"accepted": True}, headers=bearer("three"), timeout=60).raise_for_status()
    assert [custom_event.name for custom_event in events if custom_event.type == "CUSTOM"] == [
        "portico.asked",
        "portico.answered",
    ]
    assert text_of(events) == "Done."


def test_an_error_is_the_last_event(daemon: Daemon) -> None:
    events: list[Any] = list(events_of(daemon, "clever", said("fail")))
    assert types_of(events) == ["RUN_STARTED", "RUN_ERROR"]
    assert (events[-1].message, events[-1].code) == ("Too many.", "rate_limit_exceeded")
    refusal_events: list[Any] = list(events_of(daemon, "counter", said("sum"), tools=[WEATHER]))
    assert refusal_events[-1].type == "RUN_ERROR" and "tools" in refusal_events[-1].message


def test_a_front_end_that_leaves_ends_its_run(daemon: Daemon) -> None:
    events = events_of(daemon, "janitor", said("empty again"), key="three")
    run = next(events).metadata["run"]
    while next(events).type != "CUSTOM":
        pass
    events.close()  # type: ignore[attr-defined]  # it is a generator
    httpx.get(
        f"{daemon.url}/api/runs/{run}/events", headers=bearer("three"), timeout=60
    )  # until the run has ended
    run_data = httpx.get(f"{daemon.url}/api/runs/{run}", headers=bearer("three"), timeout=60).json()
    assert run_data["status"] == "cancelled"


ASKED: dict[str, Any] = {
    "threadId": "t",
    "runId": "r",
    "messages": [{"id": "1", "role": "user", "content": "x"}],
}


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"threadId": None}, "threadId"),
        ({"threadId": "t" * 300}, "threadId"),
        ({"runId": "r" * 300}, "runId"),
        ({"messages": "x"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"id": "1", "role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"id": "1", "role": "tool", "content": "x"}]}, "messages[0].toolCallId"),
        (
            {"messages": [{"id": "1", "role": "user", "content": [{"type": "binary"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"id": "1", "role": "user", "content": [{"type": "image", "source": {}}]}]},
            "messages[0].content[0].source",
        ),
        ({"tools": [{"description": "x"}]}, "tools[0].name"),
        ({"context": [1]}, "context[0]"),
        ({"resume": [{"interruptId": "1", "status": "resolved"}]}, "resume"),
    ],
)
def test_an_invalid_request_is_refused_with_the_parameter(
    daemon: Daemon, more: dict[str, Any], param: str
) -> None:
    url = f"{daemon.url}/ag-ui/echo"
    answer = httpx.post(url, json={**ASKED, **more}, headers=bearer("one"), timeout=60)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


def test_runs_of_unknown_or_forbidden_apps_are_refused(daemon: Daemon) -> None:
    with httpx.Client(base_url=daemon.url, timeout=60) as http:
        statuses = {
            path: http.post(path, json=ASKED, headers=bearer("one")).status_code
            for path in ("/ag-ui/nobody", "/ag-ui/counter", "/ag-ui/vectors", "/ag-ui/echo")
        }
        assert statuses == {
            "/ag-ui/nobody": 404,
            "/ag-ui/counter": 403,
            "/ag-ui/vectors": 400,
            "/ag-ui/echo": 200,
        }
        assert http.get("/ag-ui/echo", headers=bearer("one")).status_code == 405
        assert http.post("/ag-ui/echo", json=ASKED).status_code == 401
