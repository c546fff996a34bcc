"""Due times of schedules on fixed dates, including clock changes and the time after a daemon was down."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from portico_server.core.errors import InvalidRequest
from portico_server.db.schedules import ScheduleRow
from portico_server.features.schedules.due_runs import MAX_CAUGHT_UP_RUNS, MISSED, TOO_MANY_MISSED, plan
from portico_server.features.schedules.spec import MAX_INPUT_BYTES, parse
from portico_server.features.schedules.timing import Timing

BERLIN = "Europe/Berlin"


def at(text: str, zone: str = "UTC", *, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def due(cron: str, zone: str, start: float, count: int) -> list[str]:
    """Return the next due times in the local time of the zone."""
    times = islice(Timing.parse(cron, None, zone).times(start, 0.0), count)
    return [
        datetime.fromtimestamp(timestamp, ZoneInfo(zone)).strftime("%m-%d %H:%M%z") for timestamp in times
    ]


@pytest.mark.parametrize(
    ("cron", "zone", "start", "expected"),
    [
        # 2:30 does not exist on 29 March, and exists twice on 25 October.
        ("30 2 * * *", BERLIN, "2026-03-28T12:00", ["03-29 03:00+0200", "03-30 02:30+0200"]),
        ("30 2 * * *", BERLIN, "2026-10-24T12:00", ["10-25 02:30+0200", "10-26 02:30+0100"]),
        ("*/30 2 * * *", BERLIN, "2026-03-28T12:00", ["03-29 03:00+0200", "03-30 02:00+0200"]),
        (
            "*/30 2 * * *",
            BERLIN,
            "2026-10-25T00:00",
            ["10-25 02:00+0200", "10-25 02:30+0200", "10-26 02:00+0100"],
        ),
        ("0 */2 * * *", BERLIN, "2026-10-25T00:30", ["10-25 02:00+0200", "10-25 04:00+0100"]),
        ("0 */2 * * *", BERLIN, "2026-03-29T00:30", ["03-29 03:00+0200", "03-29 04:00+0200"]),
        (
            "0,30 2,3 * * *",
            BERLIN,
            "2026-03-29T00:00",
            ["03-29 03:00+0200", "03-29 03:30+0200", "03-30 02:00+0200"],
        ),
        # Every elapsed hour counts: a clock time that occurs twice is two hours.
        (
            "30 * * * *",
            BERLIN,
            "2026-10-25T01:00",
            ["10-25 01:30+0200", "10-25 02:30+0200", "10-25 02:30+0100"],
        ),
        ("30 * * * *", BERLIN, "2026-03-29T01:00", ["03-29 01:30+0100", "03-29 03:30+0200"]),
        # Midnight is skipped in Chile, half an hour on Lord Howe.
        ("@daily", "America/Santiago", "2026-09-05T12:00", ["09-06 01:00-0300", "09-07 00:00-0300"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", ["10-04 02:30+1100", "10-05 02:15+1100"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00", ["04-05 01:45+1100", "04-06 01:45+1030"]),
        ("0 7 * * 1-5", "America/New_York", "2026-11-20T12:00", ["11-23 07:00-0500", "11-24 07:00-0500"]),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00", ["02-29 00:00+0000"]),
        ("@weekly", "UTC", "2026-11-22T00:00", ["11-29 00:00+0000"]),
    ],
)
def test_cron_is_due_once_at_each_time_that_it_names(
    cron: str, zone: str, start: str, expected: list[str]
) -> None:
    assert due(cron, zone, at(start, zone), len(expected)) == expected


def test_a_time_is_not_due_again_in_the_repeated_hour_of_a_clock_change() -> None:
    second = at("2026-10-25T02:10", BERLIN, fold=1)
    assert due("30 2 * * *", BERLIN, second, 1) == ["10-26 02:30+0100"]
    assert due("30 2 * * *", BERLIN, at("2026-10-25T02:10", BERLIN), 1) == ["10-25 02:30+0200"]


def test_an_interval_is_counted_from_its_anchor() -> None:
    timing = Timing.parse(None, "1h30m")
    assert timing.next_due(1_000.0, 1_000.0) == 1_000.0 + 5_400
    assert timing.next_due(1_000.0 + 5_400, 1_000.0) == 1_000.0 + 10_800
    assert timing.next_due(0.0, 1_000.5) == 1_000.5
    assert timing.last(1_000.0, 12_000.0, 1_000.0, 2) == [6_400.0, 11_800.0]


@pytest.mark.parametrize(
    ("given", "param", "code"),
    [
        ({}, "cron", "missing_required_parameter"),
        ({"cron": "@daily", "every": "1h"}, "cron", "invalid_value"),
        ({"cron": "@reboot"}, "cron", "invalid_cron"),
        ({"cron": "* * * * * *"}, "cron", "invalid_cron"),
        ({"cron": "61 * * * *"}, "cron", "invalid_cron"),
        ({"cron": "0 0 30 2 *"}, "cron", "invalid_cron"),
        ({"cron": "* * */20 * 1L"}, "cron", "invalid_cron"),
        ({"cron": "0 0 1 1 * " + " " * 200}, "cron", "invalid_cron"),
        ({"cron": "0 0 * * *\n"}, "cron", None),
        ({"cron": "@daily", "timezone": "Mars/Olympus"}, "timezone", "invalid_timezone"),
        ({"cron": "@daily", "timezone": "../../etc/passwd"}, "timezone", "invalid_timezone"),
        ({"cron": "@daily", "timezone": ""}, "timezone", "invalid_timezone"),
        ({"cron": "@daily", "timezone": "America"}, "timezone", "invalid_timezone"),
        ({"every": "59s"}, "every", "invalid_interval"),
        ({"every": "15"}, "every", "invalid_interval"),
        ({"every": "400d"}, "every", "invalid_interval"),
        ({"every": ""}, "every", "invalid_interval"),
        ({"every": "1h", "missed": "never"}, "missed", "invalid_value"),
        ({"every": "1h", "overlap": 1}, "overlap", "invalid_type"),
        ({"every": "1h", "pause_after": True}, "pause_after", "invalid_type"),
        ({"every": "1h", "pause_after": -1}, "pause_after", "invalid_value"),
        ({"every": "1h", "store": "b"}, "app", "invalid_value"),
        ({"every": "1h", "input": "x" * MAX_INPUT_BYTES}, "input", "input_too_large"),
        ({"every": "1h", "tiemzone": "UTC"}, "tiemzone", "unknown_parameter"),
        ({"every": "1h", "name": "a/b"}, "name", "invalid_name"),
    ],
)
def test_an_invalid_schedule_is_refused_with_its_field(
    given: dict[str, Any], param: str, code: str | None
) -> None:
    if code is None:
        assert parse({"name": "a", "app": "b", **given}).timing.cron == "0 0 * * *"
        return
    with pytest.raises(InvalidRequest) as error:
        parse({"name": "a", "app": "b", **given}, "schedules[3]")
    assert (error.value.param, error.value.code) == (f"schedules[3].{param}", code)


HOURLY = ScheduleRow(
    id="sched_1",
    name="a",
    owner=None,
    key="key",
    kind="app",
    target="b",
    input=None,
    cron="0 * * * *",
    every=None,
    timezone="UTC",
    missed="once",
    overlap="skip",
    pause_after=5,
    paused=None,
    failures=0,
    anchor=0.0,
    next_at=0.0,
    created_at=0.0,
    updated_at=0.0,
)


def planned(start: str, now: str, **changes: Any) -> tuple[list[str], list[str]]:
    """Return the times of the runs of a schedule that was next due at ``start``, and the reasons for times without
    a run.
    """
    row = replace(HOURLY, next_at=at(start), **changes)
    schedule_plan = plan(row, at(now))
    time_texts = [
        f"{datetime.fromtimestamp(due, UTC):%d %H:%M} {cause}" for due, cause in schedule_plan.times
    ]
    return time_texts, [reason for _due, _cause, reason in schedule_plan.skipped]


def test_times_missed_without_a_daemon_are_caught_up_by_the_missed_setting() -> None:
    start, now = "2026-11-22T07:00", "2026-11-22T10:20"
    assert planned(start, start) == (["22 07:00 time"], [])
    assert planned(start, "2026-11-22T06:59") == ([], [])
    assert planned(start, now) == (["22 10:00 missed"], [])
    assert planned(start, now, missed="skip") == ([], [MISSED])
    assert planned(start, "2026-11-22T10:00:59", missed="skip") == (["22 10:00 time"], [])
    every = ["22 07:00 missed", "22 08:00 missed", "22 09:00 missed", "22 10:00 missed"]
    assert planned(start, now, missed="all") == (every, [])
    times, reasons = planned("2025-01-01T00:00", now, missed="all")
    assert (len(times), times[-1], reasons) == (MAX_CAUGHT_UP_RUNS, "22 10:00 missed", [TOO_MANY_MISSED])
    # The code does not step through a year of minutes.
    minutes, _ = planned("2025-01-01T00:00", now, missed="all", cron="* * * * *")
    assert minutes[-3:] == ["22 10:18 missed", "22 10:19 time", "22 10:20 time"]
    assert planned(start, now, cron=None, every="15m", anchor=at(start))[0] == ["22 10:15 missed"]
