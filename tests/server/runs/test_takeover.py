"""Two daemons on one database: the runs of a silent daemon are taken over, and only one daemon writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from portico_server.core import filter as filters
from portico_server.core.context import Context
from portico_server.core.errors import Forbidden
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.request import ChatReply, Request
from portico_server.core.servable import Card
from portico_server.db import runs, steps
from portico_server.db.database import Database
from portico_server.features.flows.feature import MAX_RUNNING_FLOWS
from portico_server.features.flows.flows import Flows
from portico_server.features.sandbox.light import LightSandbox
from portico_server.runs.questions import QuestionService
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler
from portico_server.runs.usage import UsageLog

OWNER = Principal("key_owner", frozenset({"*", "chat"}))

FLOW = {
    "portico_flow": 1,
    "name": "two",
    "durability": "normal",
    "step": {
        "op": "pipeline",
        "name": "p",
        "steps": [
            {"op": "llm", "name": "first", "model": "slow", "user": "a"},
            {"op": "llm", "name": "second", "model": "slow", "user": "b"},
        ],
    },
}


@dataclass
class Slow:
    """A model that answers ``b`` only when the test allows it."""

    may: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list)
    waits: asyncio.Event = field(default_factory=asyncio.Event)
    card = Card("slow", "model", capabilities=frozenset({"chat"}))

    async def call(self, request: Request, context: Context) -> ChatReply:
        text = request.messages[-1]["content"]  # type: ignore[union-attr]
        self.asked.append(text)
        if text == "b":
            self.waits.set()
            await self.may.wait()
        return ChatReply(text)


@dataclass
class Executor:
    """The parts of one daemon that execute runs."""

    database: Database
    scheduler: Scheduler
    flows: Flows
    model: Slow


@asynccontextmanager
async def daemon(path: Path) -> AsyncIterator[Executor]:
    database = Database.at(path)
    database.prepare()
    registry = Registry()
    model = Slow()
    registry.add(model)
    runner = Runner(registry, UsageLog(database), timeout=60, questions=QuestionService(database))
    scheduler = Scheduler(database, runner)
    scheduler.principals = lambda _owner: OWNER
    light = LightSandbox()
    flows = Flows(database, registry, runner, scheduler, light, filters.parse)
    scheduler.handle("flow", flows.work, concurrency=MAX_RUNNING_FLOWS, is_shared=True, is_owned=True)
    try:
        yield Executor(database, scheduler, flows, model)
    finally:
        await runner.close()
        await light.close()
        database.close()


@asynccontextmanager
async def at_work(scheduler: Scheduler) -> AsyncIterator[None]:
    task = asyncio.create_task(scheduler.run(is_alone=False))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def silent(made: Executor, run_id: str) -> None:
    """Let the lease of a run expire, as if its daemon had stood still for a long time."""
    await made.database.write(runs.renew, [run_id], made.scheduler.holder, -1.0)
    made.scheduler.sure_until = 0.0


async def ended(made: Executor, run_id: str) -> runs.RunRow:
    async with asyncio.timeout(60):
        while True:
            row = await made.database.read(runs.get, run_id)
            assert row is not None
            if row.finished_at is not None:
                return row
            await asyncio.sleep(0)


@pytest.fixture
async def houses(tmp_path: Path) -> AsyncIterator[tuple[Executor, Executor]]:
    async with daemon(tmp_path / "portico.db") as first, daemon(tmp_path / "portico.db") as second:
        yield first, second


async def begun(made: Executor) -> str:
    """Return a run in the middle of its second step."""
    flow = await made.flows.read(FLOW, OWNER)
    run = await made.flows.begin(flow, None, OWNER)
    await made.model.waits.wait()
    return run.id


async def test_a_silent_daemon_s_run_is_finished_by_another(houses: tuple[Executor, Executor]) -> None:
    first, second = houses
    run_id = await begun(first)
    await silent(first, run_id)
    second.model.may.set()
    async with at_work(second.scheduler):
        row = await ended(second, run_id)
    assert (row.status, row.result) == ("completed", "b")
    assert second.model.asked == ["b"]  # the first step was not repeated


async def test_a_daemon_whose_run_was_taken_over_writes_nothing_afterwards(
    houses: tuple[Executor, Executor],
) -> None:
    first, second = houses
    run_id = await begun(first)
    await silent(first, run_id)
    second.model.may.set()
    async with at_work(second.scheduler):
        await ended(second, run_id)
    steps_before = await second.database.read(steps.of_run, run_id)
    first.model.may.set()  # now it could continue, but must not
    await first.scheduler.wait_for_end(run_id)
    row = await second.database.read(runs.get, run_id)
    assert row is not None
    assert (row.status, row.result, row.error) == ("completed", "b", None)
    assert await second.database.read(steps.of_run, run_id) == steps_before


async def test_a_run_that_another_daemon_cancels_stops_where_it_is(houses: tuple[Executor, Executor]) -> None:
    first, second = houses
    run_id = await begun(first)
    error = {"message": "The run was cancelled.", "type": "server_error", "code": "cancelled"}
    assert await second.database.write(runs.cancel_elsewhere, run_id, error)
    async with at_work(first.scheduler):  # it checks its leases
        async with asyncio.timeout(60):
            await first.scheduler.wait_for_end(run_id)
    row = await second.database.read(runs.get, run_id)
    assert row is not None
    assert (row.status, row.error) == ("cancelled", error)
    assert not await second.database.write(runs.cancel_elsewhere, run_id, error), "it has ended"


async def test_the_events_of_two_attempts_do_not_share_numbers(houses: tuple[Executor, Executor]) -> None:
    first, second = houses
    run_id = await begun(first)
    await silent(first, run_id)
    second.model.may.set()
    async with at_work(second.scheduler):
        await ended(second, run_id)
    numbers = [
        seq for seq, _event in await second.database.read(runs.events, run_id, runs.ATTEMPT_STRIDE_COUNT, 100)
    ]
    assert numbers[0] > runs.ATTEMPT_STRIDE_COUNT
    assert numbers == sorted(set(numbers))


async def test_a_run_whose_key_was_revoked_meanwhile_is_not_taken_up(
    houses: tuple[Executor, Executor],
) -> None:
    first, second = houses

    def gone(owner: str) -> Principal:
        raise Forbidden(f"The key '{owner}' was revoked.", code="key_revoked")

    run_id = await begun(first)
    await silent(first, run_id)
    second.scheduler.principals = gone
    async with at_work(second.scheduler):
        row = await ended(second, run_id)
    assert row.status == "failed"
    assert row.error is not None
    assert row.error["code"] == "key_revoked"
    assert second.model.asked == []


async def test_a_run_is_stopped_when_its_key_is_revoked(houses: tuple[Executor, Executor]) -> None:
    first, _second = houses

    def gone(owner: str) -> Principal:
        raise Forbidden(f"The key '{owner}' was revoked.", code="key_revoked")

    run_id = await begun(first)
    first.scheduler.principals = gone
    async with at_work(first.scheduler):
        row = await ended(first, run_id)
    assert (row.status, (row.error or {}).get("code")) == ("failed", "key_revoked")


async def test_takeovers_without_progress_increase_the_attempt_count(
    houses: tuple[Executor, Executor],
) -> None:
    first, second = houses
    run_id = await begun(first)
    attempts: list[int] = []
    for _ in range(8):
        await silent(first, run_id)
        row = await second.database.write(runs.claim, ["flow"], first.scheduler.holder, -1.0, ["flow"])
        assert row is not None
        attempts.append(row.attempts)
    # The first takeover found a finished step; the later ones found nothing new.
    assert attempts == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_event_numbers_are_never_reused_by_a_later_attempt(
    houses: tuple[Executor, Executor],
) -> None:
    """Event numbers are never reused, even though none of the events was journalled: a client may have received
    some.
    """
    first, second = houses
    run_id = await begun(first)
    numbers: list[int] = []
    for _ in range(3):
        await silent(first, run_id)
        await second.database.write(runs.claim, ["flow"], first.scheduler.holder, -1.0, ["flow"])
        numbers.append(await second.database.read(runs.last_event, run_id))
    assert numbers == [attempt * runs.ATTEMPT_STRIDE_COUNT for attempt in (1, 2, 3)]


async def test_progress_between_takeovers_resets_the_attempt_count(houses: tuple[Executor, Executor]) -> None:
    first, second = houses
    run_id = await begun(first)
    for number in range(8):
        await silent(first, run_id)
        row = await second.database.write(runs.claim, ["flow"], first.scheduler.holder, -1.0, ["flow"])
        assert row is not None
        assert row.attempts == 1
        await second.database.write(steps.record, run_id, [step(f"p.s{number}", row.started_at or 0.0)])


def step(path: str, started: float) -> steps.StepRow:
    return steps.StepRow(path, 1, "code", "completed", 1, None, "1", None, started, 0.0)


async def test_a_run_in_progress_cannot_be_claimed_by_another_daemon(
    houses: tuple[Executor, Executor],
) -> None:
    first, second = houses
    run_id = await begun(first)
    run_claim: Any = await second.database.write(runs.claim, ["flow"], "other", 30.0, ["flow"])
    assert run_claim is None
    first.model.may.set()
    assert (await ended(first, run_id)).result == "b"
