"""Runs over the native API: their events from any point on, after the end and while they wait; stopping runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api_server import ApiServer, api_server

from portico.wire import Progressed
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest


class Job:
    """A durable handler that reports ``stages``, waits for ``go`` before the last stage, and may fail."""

    def __init__(self, *stages: str, error: Exception | None = None) -> None:
        self.stages = stages
        self.error = error
        self.began = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, payload: Mapping[str, Any], context: Context) -> Any:
        for stage in self.stages[:-1]:
            await context.emit(Progressed(stage))
        self.began.set()
        await self.go.wait()
        await context.emit(Progressed(self.stages[-1]))
        if self.error is not None:
            raise self.error
        return {"done": True}


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path) as server:
        yield server


def told(text: str) -> list[tuple[int, str]]:
    """Return the number and type (or stage) of each event in a stream."""
    numbered_stages = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        if "data" in fields:
            event = json.loads(fields["data"])
            numbered_stages.append((int(fields["id"]), event.get("stage") or event["type"]))
    return numbered_stages


async def follow(daemon: ApiServer, run: str, after: int | None = None) -> httpx.Response:
    headers = {} if after is None else {"last-event-id": str(after)}
    return await daemon.client.get(f"/api/runs/{run}/events", headers=headers)


async def test_events_are_followed_live_and_read_again_later(daemon: ApiServer) -> None:
    job = Job("a", "b", "c")
    daemon.services.scheduler.handle("job", job)
    run = await daemon.services.scheduler.ensure("job", "x")
    await job.began.wait()
    following = asyncio.create_task(follow(daemon, run))
    assert (await daemon.client.get(f"/api/runs/{run}")).json()["status"] == "running"
    job.go.set()
    live = told((await following).text)
    assert live == [(1, "a"), (2, "b"), (3, "c"), (4, "finished")]
    assert told((await follow(daemon, run)).text) == live
    assert told((await follow(daemon, run, after=2)).text) == live[2:]
    run_row = (await daemon.client.get(f"/api/runs/{run}")).json()
    assert (run_row["status"], run_row["kind"], run_row["name"]) == ("completed", "job", "x")


async def test_a_failed_run_reports_its_error(daemon: ApiServer) -> None:
    job = Job("a", error=InvalidRequest("No such thing.", code="odd"))
    job.go.set()
    daemon.services.scheduler.handle("job", job)
    run = await daemon.services.scheduler.ensure("job", "x")
    text = (await follow(daemon, run)).text
    assert told(text)[-1][1] == "failed"
    assert "No such thing." in text
    assert (await daemon.client.get(f"/api/runs/{run}")).json()["error"]["code"] == "odd"


async def test_a_run_that_waits_can_be_followed_before_it_begins(daemon: ApiServer) -> None:
    first, second = Job("a"), Job("b")
    jobs = iter([first, second])
    daemon.services.scheduler.handle("job", lambda payload, context: next(jobs)(payload, context))
    blocking = await daemon.services.scheduler.ensure("job", "one")
    await first.began.wait()
    queued_run = await daemon.services.scheduler.ensure("job", "two")
    assert (await daemon.client.get(f"/api/runs/{queued_run}")).json()["status"] == "queued"
    following = asyncio.create_task(follow(daemon, queued_run))
    first.go.set()
    second.go.set()
    assert told((await following).text) == [(1, "b"), (2, "finished")]
    assert told((await follow(daemon, blocking)).text)[-1][1] == "finished"


async def test_cancelling_stops_running_and_queued_runs(daemon: ApiServer) -> None:
    job = Job("a", "b")
    daemon.services.scheduler.handle("job", job)
    living = await daemon.services.scheduler.ensure("job", "one")
    await job.began.wait()
    queued_run = await daemon.services.scheduler.ensure("job", "two")
    for run in (queued_run, living):
        assert (await daemon.client.post(f"/api/runs/{run}/cancel")).json()["status"] == "cancelled"
        assert (await daemon.client.get(f"/api/runs/{run}")).json()["status"] == "cancelled"
        assert told((await follow(daemon, run)).text)[-1][1] == "failed"
    assert (await daemon.client.post(f"/api/runs/{living}/cancel")).json()["status"] == "cancelled"


async def test_runs_are_listed_newest_first(daemon: ApiServer) -> None:
    job = Job("a")
    job.go.set()
    daemon.services.scheduler.handle("job", job)
    runs = []
    for name in ("one", "two", "three"):
        runs.append(await daemon.services.scheduler.ensure("job", name))
        await follow(daemon, runs[-1])
    for limit, has_more in ((2, True), (3, False)):
        page = (await daemon.client.get("/api/runs", params={"limit": limit})).json()
        assert [run["id"] for run in page["data"]] == runs[: -limit - 1 : -1]
        assert page["has_more"] is has_more
    for limit in ("0", "x", "1000"):
        response = await daemon.client.get("/api/runs", params={"limit": limit})
        assert (response.status_code, response.json()["error"]["param"]) == (400, "limit")


async def test_an_unknown_run_is_a_404_and_an_invalid_event_id_a_400(daemon: ApiServer) -> None:
    for path in ("", "/events"):
        response = await daemon.client.get(f"/api/runs/run_nope{path}")
        assert (response.status_code, response.json()["error"]["code"]) == (404, "run_not_found")
    job = Job("a")
    job.go.set()
    daemon.services.scheduler.handle("job", job)
    run = await daemon.services.scheduler.ensure("job", "x")
    response = await daemon.client.get(f"/api/runs/{run}/events", headers={"last-event-id": "-1"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "Last-Event-ID")


async def test_all_runs_are_read_a_page_at_a_time(daemon: ApiServer) -> None:
    job = Job("a")
    job.go.set()
    daemon.services.scheduler.handle("job", job)
    daemon.services.scheduler.handle("held", held_job := Job("a"))
    runs = {await daemon.services.scheduler.ensure("job", f"job {number}") for number in range(5)}
    for run in runs:
        await follow(daemon, run)
    runs.add(await daemon.services.scheduler.ensure("held", "lives"))
    await held_job.began.wait()
    listed_runs: list[str] = []
    while True:
        query = {"after": listed_runs[-1]} if listed_runs else {}
        page = (await daemon.client.get("/api/runs", params={"limit": 2, **query})).json()
        listed_runs += [run["id"] for run in page["data"]]
        if not page["has_more"]:
            break
    held_job.go.set()
    assert listed_runs == sorted({*listed_runs}, reverse=True) and runs <= {*listed_runs}
    response = await daemon.client.get("/api/runs", params={"after": "run_nope"})
    assert (response.status_code, response.json()["error"]["param"]) == (404, "after")
