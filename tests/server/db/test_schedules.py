"""Schedules in the database: a time belongs to one daemon, with its runs; ends of runs are counted with their ends."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from sqlalchemy import Connection, text

from portico_server.core.errors import Conflict
from portico_server.db import runs, webhooks
from portico_server.db import schedules as rows
from portico_server.db.database import Database
from portico_server.db.schedules import ScheduleRow
from portico_server.db.webhooks import WebhookRow
from portico_server.features.schedules.due_runs import (
    STILL_UNDER_WAY,
    TOO_MANY_UNDER_WAY,
    take_due,
    take_now,
)


async def scheduled(database: Database, ref: str = "a", **changes: Any) -> ScheduleRow:
    """Return a due schedule: hourly since 1970, always half an hour from the next time and the previous one."""
    values: dict[str, Any] = {
        "id": f"sched_{ref}",
        "name": ref,
        "owner": "key_one",
        "key": "key_one",
        "kind": "app",
        "target": "b",
        "input": {"q": 1},
        "cron": None,
        "every": "1h",
        "timezone": "UTC",
        "missed": "once",
        "overlap": "skip",
        "pause_after": 2,
        "paused": None,
        "failures": 0,
        "anchor": (time.time() + 1_800) % 3_600,
        "next_at": 3_600.0,
        "created_at": 1.0,
        "updated_at": 1.0,
        **changes,
    }
    row = ScheduleRow(**values)
    assert await database.write(rows.add, row, 100)
    return row


async def again(database: Database, row: ScheduleRow) -> ScheduleRow:
    """Return the current schedule, due once more."""

    def make(connection: Connection) -> None:
        connection.execute(text("update schedules set next_at = 3600 where next_at is not null"))

    await database.write(make)
    current = await database.read(rows.get, row.id)
    assert current is not None
    return current


async def times(database: Database, row: ScheduleRow) -> list[rows.ScheduleTime]:
    return await database.read(rows.times, row.id, 100)


async def test_only_one_daemon_takes_a_due_time_and_writes_its_run_atomically(database: Database) -> None:
    row = await scheduled(database)
    assert [due_row.id for due_row in await database.read(rows.due)] == [row.id]
    assert await database.read(rows.seconds_to_next) == 0
    take_counts = await asyncio.gather(*(database.write(take_due, row) for _daemon in range(6)))
    assert sorted(take_counts) == [0, 0, 0, 0, 0, 1]
    [due_time] = await times(database, row)
    assert (due_time.cause, due_time.status) == ("missed", "queued")
    run = await database.read(runs.get, due_time.run_id or "")
    assert run is not None
    assert (run.kind, run.owner, run.payload["input"]) == ("schedule", "key_one", {"q": 1})
    assert await database.read(rows.due) == []
    coming = await database.read(rows.seconds_to_next)
    assert coming is not None and 0 < coming <= 3_600

    def broken(connection: Connection) -> None:
        assert take_due(connection, stands) == 1
        raise Conflict("killed")

    stands = await again(database, row)
    await database.write(runs.finish, due_time.run_id or "", "completed")
    with pytest.raises(Conflict):
        await database.write(broken)
    assert len(await times(database, row)) == 1, "neither the run is there"
    assert await database.write(take_due, stands) == 1, "nor is the time lost"


async def test_a_changed_or_paused_schedule_is_not_started_from_its_old_row(database: Database) -> None:
    row = await scheduled(database)
    await database.write(rows.change, row, {"target": "c"})
    assert await database.write(take_due, row) == 0
    await database.write(rows.pause, row.id, "enough")
    paused = await database.read(rows.get, row.id)
    assert paused is not None and (paused.paused, paused.next_at) == ("enough", None)
    assert await database.read(rows.due) == []


async def test_a_running_schedule_skips_queues_or_overlaps_by_its_overlap_rule(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = await scheduled(database)
    assert await database.write(take_due, row) == 1
    assert await database.write(take_due, await again(database, row)) == 0
    latest, first = await times(database, row)
    assert (latest.skipped, latest.run_id, first.skipped) == (STILL_UNDER_WAY, None, None)
    with pytest.raises(Conflict) as error:
        await database.write(take_now, row)
    assert error.value.code == "run_under_way"

    monkeypatch.setattr("portico_server.features.schedules.due_runs.MAX_RUNS_UNDER_WAY", 2)
    names = set()
    for overlap in ("queue", "allow"):
        second_row = await scheduled(database, overlap, overlap=overlap)
        assert await database.write(take_due, second_row) == 1
        assert await database.write(take_due, await again(database, second_row)) == 1
        assert await database.write(take_due, await again(database, second_row)) == 0
        [beyond, *entries] = await times(database, second_row)
        assert beyond.skipped == TOO_MANY_UNDER_WAY
        run_rows = [await database.read(runs.get, item.run_id or "") for item in entries]
        names.add((overlap, len({item.name for item in run_rows if item is not None})))
    assert names == {("queue", 1), ("allow", 2)}, "runs of one name are done one after another"


async def test_the_journal_is_trimmed_except_for_running_runs(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MAX_KEPT_TIMES", 3)
    row = await scheduled(database)
    await database.write(take_due, row)
    for _ in range(4):
        await database.write(take_due, await again(database, row))
    journal = await times(database, row)
    assert [entry.skipped for entry in journal] == [STILL_UNDER_WAY] * 3 + [None]
    await database.write(rows.remove, row.id)
    assert await times(database, row) == []


async def test_repeated_failures_pause_a_schedule_and_notify_webhooks(database: Database) -> None:
    hook = WebhookRow(
        "wh_a", "key_one", "a", "https://example.com", ["schedule.paused"], "whsec_QQ==", 1.0, 1.0
    )
    assert await database.write(webhooks.add, hook, 20)
    row = await scheduled(database)

    async def ended(status: Any) -> ScheduleRow:
        await database.write(take_due, await again(database, row))
        run_id = (await times(database, row))[0].run_id or ""
        error = {"message": "no model"} if status == "failed" else None
        await database.write(runs.finish, run_id, status, None, error)
        current = await database.read(rows.get, row.id)
        assert current is not None
        return current

    assert (await ended("failed")).failures == 1
    assert (await ended("cancelled")).failures == 1
    assert (await ended("completed")).failures == 0
    await ended("failed")
    assert (await database.read(webhooks.deliveries_of, "wh_a")).data == ()
    paused = await ended("failed")
    assert paused.paused == "The last 2 runs failed: no model"
    [delivery] = (await database.read(webhooks.deliveries_of, "wh_a")).data
    assert (delivery.event_type, '"sched_a"' in delivery.payload) == ("schedule.paused", True)


async def test_schedule_names_are_unique_per_owner_and_shared_names_are_refused(database: Database) -> None:
    await scheduled(database, "mine")
    await scheduled(database, "theirs", name="mine", owner="key_two", key="key_two")
    await scheduled(database, "shared", name="house", owner=None, key="system")
    for name in ("mine", "house"):
        with pytest.raises(Conflict) as error:
            await scheduled(database, "other", name=name)
        assert error.value.code == "name_taken"
    row = await database.read(rows.by_name, "mine", "key_one")
    assert row is not None
    with pytest.raises(Conflict):
        await database.write(rows.change, row, {"name": "house"})
    await database.write(rows.change, row, {"name": "moved"})
    assert await database.read(rows.by_name, "mine", "key_one") is None
    assert [schedule.name for schedule in await database.read(rows.visible, "key_one")] == ["house", "moved"]
    full = ScheduleRow(
        **{name: getattr(row, name) for name in ScheduleRow.__dataclass_fields__} | {"id": "x", "name": "x"}
    )
    assert not await database.write(rows.add, full, 1)
