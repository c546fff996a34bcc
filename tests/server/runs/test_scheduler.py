"""Durable runs: queued once, executed once, restarted after a crash."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from portico.wire import Progressed
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import SYSTEM, Principal
from portico_server.core.registry import Registry
from portico_server.db import runs
from portico_server.db.database import Database
from portico_server.db.runs import FOR
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler
from portico_server.runs.usage import UsageLog


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()
    yield database
    database.close()


def scheduler_on(database: Database) -> Scheduler:
    return Scheduler(database, Runner(Registry(), UsageLog(database), timeout=60))


async def until_ended(database: Database, run_id: str) -> runs.RunRow:
    """Wait for the run to end, with a time limit."""
    async with asyncio.timeout(60):
        while True:
            row = await database.read(runs.get, run_id)
            assert row is not None
            if row.finished_at is not None:
                return row
            await asyncio.sleep(0)


async def test_a_queued_run_is_completed_and_its_events_are_stored(database: Database) -> None:
    scheduler = scheduler_on(database)

    async def work(payload: Mapping[str, Any], context: Context) -> Any:
        await context.emit(Progressed("read", done=1, total=2))
        return {"seen": payload["what"]}

    scheduler.handle("ingest", work)
    task = asyncio.create_task(scheduler.run(is_alone=True))
    run_id = await scheduler.ensure("ingest", "vs_1", {"what": "a file"})
    row = await until_ended(database, run_id)
    task.cancel()
    await asyncio.wait([task])
    assert (row.status, row.result, row.attempts) == ("completed", {"seen": "a file"}, 1)
    events = await database.read(runs.events, run_id, 0, 10)
    assert [event["type"] for _, event in events] == ["status", "finished"]


async def test_a_run_already_in_the_queue_is_not_queued_again(database: Database) -> None:
    scheduler = scheduler_on(database)
    first = await scheduler.ensure("ingest", "vs_1")
    assert await scheduler.ensure("ingest", "vs_1") == first
    assert await scheduler.ensure("ingest", "vs_2") != first


async def test_a_failure_is_recorded_with_its_sentence(database: Database) -> None:
    scheduler = scheduler_on(database)

    async def work(payload: Mapping[str, Any], context: Context) -> Any:
        raise InvalidRequest("The folder is gone.", code="folder_gone")

    scheduler.handle("sync", work)
    task = asyncio.create_task(scheduler.run(is_alone=True))
    row = await until_ended(database, await scheduler.ensure("sync", "vs_1"))
    task.cancel()
    await asyncio.wait([task])
    assert row.status == "failed"
    assert row.error is not None
    assert (row.error["code"], row.error["message"]) == ("folder_gone", "The folder is gone.")


async def test_a_run_has_the_rights_of_its_key_at_the_moment_it_begins(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    rights = ["stores:*:read", "chat"]
    scheduler = scheduler_on(database)
    scheduler.principals = lambda owner: Principal(owner, frozenset(rights))
    read_last_event = runs.last_event

    def lose_a_right(connection: Any, run_id: str) -> int:
        """Stand for an admin who changes the key after the run was claimed."""
        rights.remove("chat")
        return read_last_event(connection, run_id)

    monkeypatch.setattr(runs, "last_event", lose_a_right)

    async def work(payload: Mapping[str, Any], context: Context) -> Any:
        return sorted(context.caller.scopes)

    scheduler.handle("flow", work, is_owned=True)
    run_id = await scheduler.ensure("flow", "mine", caller=scheduler.principals("key_1"))
    task = asyncio.create_task(scheduler.run(is_alone=True))
    row = await until_ended(database, run_id)
    task.cancel()
    await asyncio.wait([task])
    assert row.result == ["stores:*:read"]


async def test_a_run_that_was_cut_off_begins_again(database: Database) -> None:
    start_event = asyncio.Event()

    async def hang(payload: Mapping[str, Any], context: Context) -> Any:
        start_event.set()
        await asyncio.Event().wait()

    first = scheduler_on(database)
    first.handle("ingest", hang)
    run_id = await first.ensure("ingest", "vs_1")
    task = asyncio.create_task(first.run(is_alone=True))
    await asyncio.wait_for(start_event.wait(), 60)
    task.cancel()
    await asyncio.wait([task])

    async def work(payload: Mapping[str, Any], context: Context) -> Any:
        return "done"

    second = scheduler_on(database)
    second.handle("ingest", work)
    task = asyncio.create_task(second.run(is_alone=True))
    row = await until_ended(database, run_id)
    task.cancel()
    await asyncio.wait([task])
    assert (row.status, row.result, row.attempts) == ("completed", "done", 2)


async def test_runs_of_the_same_name_never_run_concurrently(database: Database) -> None:
    living = 0
    most = 0

    async def work(payload: Mapping[str, Any], context: Context) -> Any:
        nonlocal living, most
        living += 1
        most = max(most, living)
        for _ in range(20):
            await asyncio.sleep(0)
        living -= 1

    scheduler = scheduler_on(database)
    scheduler.handle("ingest", work, concurrency=4)
    task = asyncio.create_task(scheduler.run(is_alone=True))
    ids = []
    for _ in range(5):
        ids.append(await scheduler.ensure("ingest", "vs_1"))
    for run_id in set(ids):
        await until_ended(database, run_id)
    task.cancel()
    await asyncio.wait([task])
    assert most == 1


async def test_one_key_occupies_at_most_half_of_the_run_slots(database: Database) -> None:
    scheduler = scheduler_on(database)
    greedy, modest = (Principal(name, frozenset({"chat"})) for name in ("greedy", "modest"))
    scheduler.principals = lambda owner: Principal(owner, frozenset({"chat"}))
    order: list[str] = []
    last, over = asyncio.Event(), asyncio.Event()

    async def work(payload: Mapping[str, Any], context: Context) -> Any:
        order.append(payload["of"])
        if len(order) == 3:
            last.set()
        await over.wait()

    scheduler.handle("batch", work, concurrency=4)
    ids = [await scheduler.ensure("batch", f"g{n}", {"of": "greedy"}, caller=greedy) for n in range(6)]
    ids.append(await scheduler.ensure("batch", "m", {"of": "modest"}, caller=modest))
    task = asyncio.create_task(scheduler.run(is_alone=True))
    async with asyncio.timeout(60):
        await last.wait()
    assert order == ["greedy", "modest", "greedy"]
    over.set()
    for run_id in ids:
        assert (await until_ended(database, run_id)).status == "completed"
    task.cancel()
    await asyncio.wait([task])


async def test_runs_of_the_operator_leave_one_slot_for_keys(database: Database) -> None:
    """Runs of shared stores that never end; a key with rights to the store can cause any number of them."""
    scheduler = scheduler_on(database)
    order: list[str] = []
    last, over = asyncio.Event(), asyncio.Event()

    async def work(payload: Mapping[str, Any], context: Context) -> Any:
        order.append(payload["of"])
        if payload["of"] == "key":
            last.set()
        await over.wait()

    scheduler.handle("sync", work, concurrency=4)
    scheduler.principals = lambda owner: SYSTEM if owner == SYSTEM.id else Principal(owner, frozenset())
    ids = [await scheduler.ensure("sync", f"vs_{n}", {"of": "house"}) for n in range(6)]
    task = asyncio.create_task(scheduler.run(is_alone=True))
    ids.append(await scheduler.ensure("sync", "vs_key", {"of": "key", FOR: "key_1"}))
    async with asyncio.timeout(60):
        await last.wait()
    assert order.count("house") <= 3
    over.set()
    for run_id in ids:
        assert (await until_ended(database, run_id)).status == "completed"
    task.cancel()
    await asyncio.wait([task])


async def test_each_key_with_a_long_queue_delays_another_key_by_one_run(database: Database) -> None:
    scheduler, order = scheduler_on(database), []

    async def work(payload: Mapping[str, Any], context: Context) -> Any:
        order.append(payload["for"])

    scheduler.handle("ingest", work)
    queued = [
        await scheduler.ensure("ingest", f"vs_{number}", {"for": key}) for number, key in enumerate("aaabbbc")
    ]
    task = asyncio.create_task(scheduler.run(is_alone=True))
    for run_id in queued:
        await until_ended(database, run_id)
    task.cancel()
    await asyncio.wait([task])
    assert order == ["a", "b", "c", "a", "b", "a", "b"]
