"""Counts of calls for monitoring, and the rows of calls, which are written together."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from portico_server.core.histogram import Histogram
from portico_server.db.database import Database
from portico_server.db.usage import UsageRow
from portico_server.runs import usage
from portico_server.runs.usage import OTHER_NAMES, CallCounts, UsageLog


def row(name: str = "m", **more: Any) -> UsageRow:
    fields: dict[str, Any] = {
        "status": "completed",
        "milliseconds": 20.0,
        "first_byte_milliseconds": 2.0,
        **more,
    }
    return UsageRow("run", "key", name, "chat/completions", error_code=None, created_at=0.0, **fields)


def test_calls_are_counted_by_name_and_status() -> None:
    call_counts = CallCounts()
    call_counts.add(row(prompt_tokens=3, completion_tokens=5))
    call_counts.add(row(status="failed", first_byte_milliseconds=None, milliseconds=1e6))
    [(name, operation, series)] = call_counts
    assert (name, operation) == ("m", "chat/completions")
    assert series.statuses == {"completed": 1, "failed": 1}
    assert (series.prompt_tokens, series.completion_tokens) == (3, 5)
    assert series.duration.count == 2 and series.duration.buckets[-1] == 1
    assert series.first_byte.count == 1 and series.first_byte.sum == 0.002


def test_a_duration_equal_to_a_bucket_limit_is_counted_in_that_bucket() -> None:
    histogram = Histogram()
    for seconds in (0.0, 0.005, 0.0051, 301.0):
        histogram.observe(seconds)
    assert histogram.buckets[:2] == [2, 1] and histogram.buckets[-1] == 1


def test_names_beyond_the_series_limit_share_one_series() -> None:
    call_counts = CallCounts()
    for number in range(usage.MAX_SERIES + 50):
        call_counts.add(row(f"name-{number}"))
    series_by_name = {name: series for name, _, series in call_counts}
    assert (
        len(series_by_name) == usage.MAX_SERIES + 1
        and series_by_name[OTHER_NAMES].statuses["completed"] == 50
    )


async def test_usage_rows_are_written_even_when_the_flush_is_cancelled(tmp_path: Path) -> None:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()
    log, may_write = UsageLog(database), threading.Event()
    log.add(row(prompt_tokens=3))
    writing = asyncio.Event()
    loop = asyncio.get_running_loop()

    def write_earlier(_connection: Connection) -> None:
        loop.call_soon_threadsafe(writing.set)
        may_write.wait()

    earlier_write = database.submit(write_earlier, full=False)
    await writing.wait()
    waiter = asyncio.create_task(log.flush())
    while not database.load()["write"].waiting:  # noqa: ASYNC110
        await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.wait([waiter])
    may_write.set()
    await earlier_write
    assert (await log.of_run("run", "key", 0.0)).prompt_tokens == 3
    database.close()
