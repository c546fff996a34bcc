"""Background responses: acknowledged, followed, cancelled, and preserved after a crash."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import BadRequestError, OpenAI
from openai.types.responses import Response
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.api.openai.conftest import bearer
from tests.server.api.openai.responses.test_create import WEATHER
from tests.server.features.flows.outside import Outside


def begun(client: OpenAI, **request: Any) -> tuple[Response, str]:
    """Start a background response, and return it with its run."""
    raw = client.responses.with_raw_response.create(background=True, **request)
    return raw.parse(), raw.headers["x-portico-run"]


def ended(client: OpenAI, response: Response, run: str) -> Response:
    """Return the response once its run has ended; until then the run reports events."""
    url = f"{client.base_url}../api/runs/{run}/events"
    httpx.get(url, headers={"Authorization": f"Bearer {client.api_key}"}, timeout=60).raise_for_status()
    return client.responses.retrieve(response.id)


@pytest.mark.slow
def test_a_background_response_can_be_read_when_it_is_completed(client: OpenAI) -> None:
    first, run = begun(client, model="echo", input="one two")
    assert first.status == "queued"
    assert first.output == []
    done = ended(client, first, run)
    assert (done.status, done.output_text, done.background) == ("completed", "one two", True)
    continuation = client.responses.create(model="echo", input="three", previous_response_id=first.id)
    assert continuation.usage is not None
    assert continuation.usage.input_tokens == 5


def test_a_completion_window_is_accepted_only_for_background_responses(client: OpenAI) -> None:
    options = {"completion_window": "8h", "continuation_id": "nightly"}
    begin = client.responses.create
    response = begin(model="echo", input="one", background=True, extra_body={"background_options": options})
    assert response.background
    for extra_fields, param in (
        ({"background_options": options}, "background_options.completion_window"),
        ({"background_options": {"window": "8h"}, "background": True}, "background_options.window"),
        (
            {"background_options": {"completion_window": "1h"}, "background": True},
            "background_options.completion_window",
        ),
    ):
        with pytest.raises(BadRequestError) as error_info:
            begin(model="echo", input="one", extra_body=extra_fields)
        assert error_info.value.param == param


@pytest.mark.conformance("OpenAI", "Responses: background", "openai")
def test_a_background_stream_is_resumed_without_a_gap(client: OpenAI) -> None:
    events: list[Any] = []
    with client.responses.create(
        model="clever", input="slowly one two three four", background=True, stream=True
    ) as stream:
        for event in stream:
            events.append(event)
            if event.type == "response.output_text.delta":
                break
    assert [event.type for event in events[:3]] == [
        f"response.{word}" for word in ("created", "queued", "in_progress")
    ]
    response_id = events[0].response.id
    last = events[-1].sequence_number
    later_events = list(client.responses.retrieve(response_id, stream=True, starting_after=last))
    events += later_events
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == events[-1].response.output_text == "one two three four"
    again = list(client.responses.retrieve(response_id, stream=True))
    assert again == events


def test_a_background_failure_is_streamed_and_stored(client: OpenAI) -> None:
    stream = client.responses.create(model="clever", input="refuse", background=True, stream=True)
    events: list[Any] = []
    with pytest.raises(openai.APIError):
        events.extend(stream)
    assert events[-1].type == "response.failed"
    stored_response = client.responses.retrieve(events[0].response.id)
    assert stored_response.error is not None
    assert stored_response.error.code == "rate_limit_exceeded"


def test_a_background_response_is_cancelled_idempotently(client: OpenAI) -> None:
    first, _run = begun(client, model="clever", input="hang")
    for _ in range(2):
        assert client.responses.cancel(first.id).status == "cancelled"
    assert client.responses.retrieve(first.id).status == "cancelled"


@pytest.mark.parametrize(("text", "status"), [("one", "completed"), ("refuse", "failed")])
def test_a_response_that_has_ended_cannot_be_cancelled(client: OpenAI, text: str, status: str) -> None:
    response = ended(client, *begun(client, model="clever", input=text))
    assert response.status == status
    with pytest.raises(openai.ConflictError) as error_info:
        client.responses.cancel(response.id)
    assert (error_info.value.code, error_info.value.param) == ("response_ended", "response_id")
    assert client.responses.retrieve(response.id).status == status


def test_a_stream_ends_with_cancelled_when_its_run_is_cancelled(harbour: Daemon, client: OpenAI) -> None:
    raw = client.responses.with_raw_response.create(
        model="clever", input="hang", background=True, stream=True
    )
    stream: Any = raw.parse()
    events = [next(stream)]
    cancel = f"{harbour.url}/api/runs/{raw.headers['x-portico-run']}/cancel"
    httpx.post(cancel, headers=bearer("boss")).raise_for_status()
    events.extend(stream)
    assert events[-1].type == "response.failed"
    assert events[-1].response.status == "cancelled"
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_streaming_or_cancelling_an_unsuitable_response_is_refused(client: OpenAI) -> None:
    waited = client.responses.create(model="echo", input="one")
    quiet = ended(client, *begun(client, model="echo", input="one"))
    for attempt in (
        lambda: client.responses.cancel(waited.id),
        lambda: list(client.responses.retrieve(waited.id, stream=True)),
        lambda: list(client.responses.retrieve(quiet.id, stream=True)),
    ):
        with pytest.raises(openai.BadRequestError):
            attempt()


def test_functions_are_called_in_the_background_too(client: OpenAI) -> None:
    done = ended(client, *begun(client, model="clever", input="weather in Oslo", tools=[WEATHER]))
    assert [item.type for item in done.output] == ["message", "function_call"]


# --- after a crash ----------------------------------------------------------------------------------------------

SLOW = [
    {"match": "^slow", "content": " ".join(f"w{n}" for n in range(30)), "interval": 0.05},
    {"match": "^wait", "tool_calls": [{"name": "wait", "arguments": {}}]},
    {"match": "^pay", "result": "paid", "content": " ".join(f"w{n}" for n in range(30)), "interval": 0.05},
    {"match": "^pay", "tool_calls": [{"name": "pay", "arguments": {}}]},
]


WAIT = {"type": "mcp", "server_label": "portico", "allowed_tools": ["wait"], "require_approval": "never"}

PAY = "import pathlib, sys; pathlib.Path(sys.argv[1]).open('a').write('once '); print('paid')"

WORDS = [f"w{n}" for n in range(30)]


def served(path: Path, outside: Outside, last: str) -> Path:
    """Write the configuration of a daemon that is killed; the flow's first step has an effect and its last one is
    slow.
    """
    steps = [
        {"op": "http", "name": "first", "method": "POST", "url": f"{outside.url}/effect", "body": "done"},
        {"op": "llm", "name": "last", "model": "slow", "input": last},
    ]
    flow = {"portico_flow": 1, "step": {"op": "pipeline", "steps": steps}}
    configuration = {
        "models": [{"name": "slow", "source": "fake://", "parameters": {"script": {"replies": SLOW}}}],
        # The tool never answers, and may have had an effect when the daemon is killed.
        "tools": [
            {"name": "wait", "description": "Waits.", "command": ["sleep", "1000"]},
            {"name": "pay", "command": [sys.executable, "-c", PAY, str(path.with_name("paid"))]},
        ],
        "apps": [{"name": "careful", "durability": "normal", "flow": flow}],
        "agents": [{"name": "teller", "model": "slow", "tools": ["pay"]}],
    }
    path.write_text(json.dumps(configuration))
    return path


def openai_client(daemon: Daemon) -> OpenAI:
    return OpenAI(base_url=f"{daemon.url}/v1", api_key="x", max_retries=0, _strict_response_validation=True)


def until(client: OpenAI, kind: str, model: str = "slow", **request: Any) -> list[Any]:
    """Return the events of a background response up to one of that kind."""
    events: list[Any] = []
    with client.responses.create(model=model, background=True, stream=True, **request) as stream:
        for event in stream:
            events.append(event)
            if event.type == kind:
                break
    return events


@dataclass(frozen=True)
class Crash:
    """Work started before a daemon was killed, and a client of the next daemon."""

    client: OpenAI
    quiet: tuple[Response, str]
    seen: list[Any]
    doing: list[Any]
    flow: tuple[Response, str]
    told: list[Any]
    agent: list[Any]
    paid: Path
    outside: Outside


@pytest.fixture(scope="module")
def crash(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crash]:
    home = tmp_path_factory.mktemp("crash")
    env = {"PORTICO_TOOL_HOSTS": "127.0.0.1"}
    with Outside() as outside:
        configuration = served(home / "house.yaml", outside, "slow")
        daemon = daemons.start(home / "data", "--file", str(configuration), env=env)
        try:
            with openai_client(daemon) as client:
                quiet = begun(client, model="slow", input="slow")
                flow = begun(client, model="careful", input="go")
                doing = until(client, "response.mcp_call.in_progress", input="wait", tools=[WAIT])
                agent_events = until(client, "response.output_text.delta", "careful", input="go")
                agent = until(client, "response.output_text.delta", "teller", input="pay")
                # This one is last: its answer takes a second and a half, and is unfinished when the daemon is
                # killed.
                seen_events = until(client, "response.output_text.delta", input="slow")
        finally:
            daemon.stop(signal.SIGKILL)
            for pipe in (daemon.process.stdin, daemon.process.stdout):
                assert pipe is not None
                pipe.close()
        served(configuration, outside, "another flow by now")
        with (
            daemons.running(home / "data", "--file", str(configuration), env=env) as second,
            openai_client(second) as client,
        ):
            yield Crash(client, quiet, seen_events, doing, flow, agent_events, agent, home / "paid", outside)


def rest(crash: Crash, seen: list[Any], after: int) -> list[Any]:
    return list(crash.client.responses.retrieve(seen[0].response.id, stream=True, starting_after=after))


@pytest.mark.slow
@pytest.mark.process
def test_background_responses_are_completed_or_failed_after_a_crash(crash: Crash) -> None:
    done = ended(crash.client, *crash.quiet)
    assert done.status == "completed"
    assert done.output_text.split() == WORDS
    with pytest.raises(openai.ConflictError) as error_info:
        rest(crash, crash.seen, crash.seen[-1].sequence_number)
    assert error_info.value.code == "events_made_anew"
    assert "starting_after=2" in error_info.value.message
    events = rest(crash, crash.seen, 2)
    assert [event.sequence_number for event in events] == list(range(3, 3 + len(events)))
    assert events[-1].response.output_text.split() == WORDS
    unknown = crash.client.responses.retrieve(crash.doing[0].response.id)
    assert unknown.status == "failed"
    assert unknown.error is not None
    assert "'wait' was running" in unknown.error.message


@pytest.mark.slow
def test_a_durable_flow_resumes_after_its_last_step_with_its_old_definition(crash: Crash) -> None:
    for answer in (ended(crash.client, *crash.flow), rest(crash, crash.told, 2)[-1].response):
        assert answer.status == "completed"
        assert answer.output_text.split() == WORDS
    assert crash.client.responses.create(model="careful", input="go").output_text == "another flow by now"
    assert len(crash.outside.effects) == 3
    assert sum(crash.outside.calls.values()) == 3, "no effect was asked for again"


@pytest.mark.slow
@pytest.mark.process
def test_an_agent_resumes_after_its_last_tool_call_without_repeating_it(crash: Crash) -> None:
    answer = rest(crash, crash.agent, 2)[-1].response
    assert answer.status == "completed"
    assert answer.output_text.split() == WORDS
    assert crash.paid.read_text() == "once "
    assert answer.usage.output_tokens > len(WORDS), "with what the first answer has used, before the crash"
