"""A long result of a durable flow is stored once in the database, and every API returns it as before."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.api_server import ApiServer, RelayModel, api_server

from portico_server.db import runs

MARK = "a long answer that is kept once "


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path) as server:
        yield server


async def ran(daemon: ApiServer, step: dict[str, Any], value: Any) -> tuple[str, Any]:
    """Run the step; return the id of the durable run and the result from its events."""
    flow = {"portico_flow": 1, "name": "kept", "durability": "normal", "step": step}
    answer = await daemon.client.post("/api/flows/run", json={"flow": flow, "input": value})
    assert answer.is_success, answer.text
    lines = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert lines[-1]["type"] == "finished", lines[-1]
    await daemon.services.scheduler.wait_for_end(answer.headers["x-portico-run"])
    return answer.headers["x-portico-run"], lines[-1]["result"]


def held(daemon: ApiServer, run: str) -> dict[str, int]:
    """Return how often each table contains the text, in results but not in requests."""
    database = sqlite3.connect(daemon.services.settings.database_path)
    try:
        queries = {
            "runs": "SELECT result FROM runs WHERE id = ?",
            "run_events": "SELECT event FROM run_events WHERE run_id = ?",
            "steps": "SELECT output FROM steps WHERE run_id = ?",
        }
        return {
            table: sum(str(value).count(MARK) for (value,) in database.execute(query, (run,)))
            for table, query in queries.items()
        }
    finally:
        database.close()


STEP = {"op": "code", "name": "say", "source": f"lambda n: {MARK!r} + 'x' * n"}


async def test_a_long_result_is_stored_only_in_its_step_row(daemon: ApiServer) -> None:
    run, result = await ran(daemon, STEP, 2_000)
    assert result == MARK + "x" * 2_000
    assert held(daemon, run) == {"runs": 0, "run_events": 0, "steps": 1}
    events = await daemon.client.get(f"/api/runs/{run}/events")
    events_data = [json.loads(line[6:]) for line in events.text.splitlines() if line.startswith("data: ")]
    assert events_data[-1] == {"type": "finished", "result": result}
    assert sum(MARK in line for line in events.text.splitlines()) == 1
    trace = await daemon.client.get(f"/api/runs/{run}/trace?full=true")
    assert trace.json()["steps"][-1]["output"] == result


async def test_a_run_resumed_from_a_step_reports_the_new_result(daemon: ApiServer) -> None:
    run, first = await ran(daemon, STEP, 2_000)
    answer = await daemon.client.post(f"/api/runs/{run}/resume", json={"from": "say"})
    answer.raise_for_status()
    events = await daemon.client.get(f"/api/runs/{run}/events")
    assert json.loads(events.text.strip().splitlines()[-1][6:])["result"] == first


async def test_an_event_listener_of_a_requeued_run_receives_the_next_attempt(daemon: ApiServer) -> None:
    run, first = await ran(daemon, STEP, 2_000)
    services = daemon.services
    # Put the run back in the queue; the scheduler does not look there until it is notified.
    assert await services.database.write(runs.requeue_ended, run, None)
    following = asyncio.create_task(daemon.client.get(f"/api/runs/{run}/events"))
    while run not in services.runner._arrivals and not following.done():  # noqa: ASYNC110  # nothing tells it
        await asyncio.sleep(0)
    services.scheduler.look()
    assert json.loads((await following).text.strip().splitlines()[-1][6:])["result"] == first


async def test_a_short_result_is_stored_in_the_run_row(daemon: ApiServer) -> None:
    run, result = await ran(daemon, STEP, 1)
    assert result == MARK + "x"
    assert held(daemon, run) == {"runs": 1, "run_events": 0, "steps": 1}


LARGE = 30_000
WRITE = f"""
def write(value):
    import hashlib
    seed = hashlib.sha256(repr(value).encode()).hexdigest()
    words = (hashlib.sha256(f"{{seed}}{{number}}".encode()).hexdigest() for number in range({LARGE} // 64))
    return "".join(words)
"""


def write(name: str, **more: Any) -> dict[str, Any]:
    """Return a step that outputs a long text which no other step outputs."""
    return {"op": "code", "name": name, "source": WRITE, **more}


def write_item(name: str) -> dict[str, Any]:
    return write(name, args=[{"$ref": "item"}])


PIPELINE = {"op": "pipeline", "name": "line", "steps": [write("a"), write("b"), write("c")]}
SHAPES: dict[str, dict[str, Any]] = {
    "sequence": PIPELINE,
    "sequence with an output of several": {
        **PIPELINE,
        "output": {"first": {"$ref": "steps.a"}, "rest": [{"$ref": "steps.b"}, {"$ref": "steps.c"}]},
    },
    "parallel": {
        "op": "parallel",
        "name": "both",
        "steps": [write(name, args=[{"$literal": name}]) for name in "abc"],
        "join": "dict",
    },
    "map": {"op": "warp", "name": "each", "over": {"$literal": [1, 2, 3]}, "step": write_item("a")},
    "map one by one": {
        "op": "warp",
        "name": "each",
        "over": {"$literal": [1, 2, 3]},
        "step": {"op": "pipeline", "name": "line", "steps": [write_item("a"), write("b")]},
    },
    "loop": {"op": "loop", "name": "again", "limit": 3, "step": PIPELINE},
    "nested flow": {
        "op": "pipeline",
        "name": "outer",
        "steps": [{"op": "subflow", "name": "inner", "app": "deployed"}, write("last")],
    },
    "what is handed on": {
        "op": "pipeline",
        "name": "line",
        "steps": [write("a"), {"op": "emit", "name": "say"}, {"op": "emit", "name": "repeat"}],
    },
}


def size(daemon: ApiServer) -> int:
    """Return the number of bytes in use in the database."""
    database = sqlite3.connect(daemon.services.settings.database_path)
    try:
        page, pages, free = (
            database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_size", "page_count", "freelist_count")
        )
        return int(page * (pages - free))
    finally:
        database.close()


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_database_grows_only_by_the_step_outputs(daemon: ApiServer, shape: str) -> None:
    deployed = {"portico_flow": 1, "name": "deployed", "step": PIPELINE, "durability": "normal"}
    answer = await daemon.client.post("/api/apps", json={"name": "deployed", "spec": deployed})
    assert answer.is_success, answer.text
    size_before, put_out, results = size(daemon), 0, []
    for number in range(5):
        run, result = await ran(daemon, SHAPES[shape], f"the input {number}")
        trace = (await daemon.client.get(f"/api/runs/{run}/trace?full=true")).json()["steps"]
        outputs = {json.dumps(step["output"]) for step in trace if step["output"] is not None}
        assert outputs
        put_out += sum(map(len, outputs))
        results.append((run, result))
    grown = size(daemon) - size_before
    assert grown < 1.3 * put_out, f"{grown / put_out:.2f} times"
    for run, result in results:
        events = await daemon.client.get(f"/api/runs/{run}/events")
        assert json.loads(events.text.strip().splitlines()[-1][6:])["result"] == result


async def test_a_kept_step_retains_output_shared_with_a_rerun_step(
    daemon: ApiServer,
) -> None:
    hand_on = {"op": "emit", "name": "say"}
    shared_step = {"op": "code", "name": "same", "source": f"lambda value: {MARK!r} * 100"}
    step = {
        "op": "parallel",
        "name": "both",
        "concurrency": 1,
        "steps": [
            {"op": "pipeline", "name": "one", "steps": [shared_step, hand_on]},
            {"op": "pipeline", "name": "two", "steps": [shared_step]},
        ],
    }
    run, result = await ran(daemon, step, "x")
    assert result == [MARK * 100, MARK * 100]
    assert held(daemon, run) == {"runs": 0, "run_events": 0, "steps": 100}
    again = await daemon.client.post(f"/api/runs/{run}/resume", json={"from": "both.one.same"})
    again.raise_for_status()
    events = await daemon.client.get(f"/api/runs/{run}/events")
    assert json.loads(events.text.strip().splitlines()[-1][6:])["result"] == result
    forked = await daemon.client.post(f"/api/runs/{run}/fork", json={"from": "both.two.same"})
    forked.raise_for_status()
    fork_events = await daemon.client.get(f"/api/runs/{forked.json()['id']}/events")
    assert json.loads(fork_events.text.strip().splitlines()[-1][6:])["result"] == result


async def test_the_events_of_a_response_do_not_repeat_its_document(daemon: ApiServer) -> None:
    pieces = [MARK + f"{number} " * 500 for number in range(4)]
    chunks = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    daemon.add(RelayModel("teller", *(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks)))
    body = {"model": "teller", "input": "Hello", "background": True, "stream": True}
    live = await daemon.client.post("/v1/responses", json=body)
    assert live.is_success, live.text
    response_events = [json.loads(line[6:]) for line in live.text.splitlines() if line.startswith("data: {")]
    assert response_events[-1]["type"] == "response.completed"
    response = response_events[-1]["response"]["id"]
    database = sqlite3.connect(daemon.services.settings.database_path)
    try:
        query = "SELECT data FROM response_events WHERE response_id = ?"
        stored_events = [str(data) for (data,) in database.execute(query, (response,))]
    finally:
        database.close()
    assert sum(data.count(MARK) for data in stored_events) == len(pieces), (
        "the pieces as they came, and nothing twice"
    )
    again = await daemon.client.get(f"/v1/responses/{response}?stream=true")
    assert [
        json.loads(line[6:]) for line in again.text.splitlines() if line.startswith("data: {")
    ] == response_events
    assert response_events[-1]["response"]["output"][0]["content"][0]["text"] == "".join(pieces)


async def test_a_long_question_is_stored_only_in_its_question_row(daemon: ApiServer) -> None:
    step = {
        "op": "pipeline",
        "name": "line",
        "steps": [{**STEP, "args": [2_000]}, {"op": "approve", "name": "may", "message": "May it?"}],
    }
    flow = {"portico_flow": 1, "name": "kept", "durability": "normal", "step": step}
    body = {"flow": flow, "input": None}
    running = asyncio.create_task(daemon.client.post("/api/flows/run", json=body))
    async with asyncio.timeout(60):
        while not (pending_questions := (await daemon.client.get("/api/questions")).json()["data"]):
            assert not running.done(), running.result().text
    [question] = pending_questions
    response = await daemon.client.post(f"/api/questions/{question['id']}/answer", json={"accepted": True})
    assert response.is_success, response.text
    live = [json.loads(line[6:]) for line in (await running).text.splitlines() if line.startswith("data: ")]
    run = (await running).headers["x-portico-run"]
    await daemon.services.scheduler.wait_for_end(run)
    assert held(daemon, run) == {"runs": 0, "run_events": 0, "steps": 1}
    events = await daemon.client.get(f"/api/runs/{run}/events")
    event_list = [json.loads(line[6:]) for line in events.text.splitlines() if line.startswith("data: ")]
    [live_event] = [event for event in live if event["type"] == "asked"]
    [replayed_event] = [event for event in event_list if event["type"] == "asked"]
    assert replayed_event == live_event
    assert replayed_event["arguments"] == {"value": MARK + "x" * 2_000}
