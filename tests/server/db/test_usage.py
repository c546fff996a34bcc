"""Usage since a point in time: sums by day, and single calls for the day that contains the point."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import pytest

from portico_server.db import retention, usage
from portico_server.db.database import Database
from portico_server.db.usage import DAY_S, HOUR_S, UsageRow

NOON = 20_000.5 * DAY_S
CALLS = [
    UsageRow(
        f"run_{n}",
        f"key_{n % 2}",
        f"model-{n % 3}",
        ("chat", "embeddings")[n % 4 == 0],
        "completed",
        None,
        NOON + (n - 150) * DAY_S / 40,
        milliseconds=float(n),
        first_byte_milliseconds=None,
        prompt_tokens=n,
        completion_tokens=2,
        cached_tokens=1,
        cost=None if n % 3 == 0 else 0.25,
        model=("", f"model-{n % 3}", "spare")[n % 7 % 3],
    )
    for n in range(300)
]
"""Calls over a week; the middle one is at noon."""

MOMENTS = (
    0.0,
    NOON - 2.25 * DAY_S,
    NOON - DAY_S / 2,
    NOON,
    NOON + 1,
    NOON + 2.5 * DAY_S,
    NOON + 9 * DAY_S,
    1e300,
    math.inf,
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    fresh_database = Database.at(tmp_path / "portico.db")
    yield fresh_database
    fresh_database.close()


def expected(
    calls: Sequence[UsageRow], since: float, key: str | None
) -> dict[tuple[str, str, str], tuple[float, ...]]:
    """Return the usage computed from the calls themselves."""
    totals: dict[tuple[str, str, str], tuple[float, ...]] = {}
    for key_of_sum in {(call.name, call.operation, call.model) for call in calls}:
        group = [
            call
            for call in calls
            if (call.name, call.operation, call.model) == key_of_sum
            and call.created_at >= since
            and key in (None, call.key_id)
        ]
        if group:
            totals[key_of_sum] = (
                len(group),
                sum(call.prompt_tokens for call in group),
                sum(call.completion_tokens for call in group),
                sum(call.cached_tokens for call in group),
                sum(call.cost or 0 for call in group) if any(call.cost for call in group) else -1,
                sum(call.milliseconds for call in group) / len(group),
            )
    return totals


async def told(
    database: Database, since: float, key: str | None
) -> dict[tuple[str, str, str], tuple[float, ...]]:
    rows = await database.read(usage.totals, since, key)
    assert [row["calls"] for row in rows] == sorted((row["calls"] for row in rows), reverse=True)
    return {
        (row["name"], row["operation"], row["model"]): (
            *(row[name] for name in ("calls", "prompt_tokens", "completion_tokens", "cached_tokens")),
            -1 if row["cost"] is None else row["cost"],
            row["milliseconds"],
        )
        for row in rows
    }


async def test_usage_totals_match_the_calls_since_any_moment(database: Database) -> None:
    database.prepare()
    for first in range(0, len(CALLS), 70):  # several times into the same days
        await database.write(usage.append, CALLS[first : first + 70])
    for since in MOMENTS:
        for key in (None, "key_1"):
            assert await told(database, since, key) == expected(CALLS, since, key), since


async def test_usage_sums_are_deleted_with_their_calls(database: Database) -> None:
    database.prepare()
    await database.write(usage.append, CALLS)
    cutoff = NOON + DAY_S / 2
    assert await database.write(retention.forget_usage, cutoff, 1_000) == sum(
        call.created_at < cutoff for call in CALLS
    )
    assert await told(database, 0.0, None) == expected(CALLS, cutoff, None)


@pytest.mark.parametrize("step", ["hour", "day"])
async def test_the_usage_series_sums_the_calls_of_each_hour_or_day(
    database: Database, step: Literal["hour", "day"]
) -> None:
    database.prepare()
    await database.write(usage.append, CALLS)
    length = {"hour": HOUR_S, "day": DAY_S}[step]
    for by, since, key in (("model", 0.0, None), ("key", NOON, None), ("name", NOON - 5, "key_1")):
        rows = await database.read(usage.course, since, step, by, key)
        expected_sums: dict[tuple[float, str], list[float]] = {}
        for call in CALLS:
            if call.created_at >= since // length * length and key in (None, call.key_id):
                series = {"model": call.model, "key": call.key_id, "name": call.name}[by]
                sums = expected_sums.setdefault((call.created_at // length * length, series), [0, 0, 0, 0])
                for number, amount in enumerate((1, call.prompt_tokens, 2, call.cost or 0)):
                    sums[number] += amount
        assert [(row["at"], row["series"]) for row in rows] == sorted(expected_sums)
        for row in rows:
            figures = [row[name] or 0 for name in ("calls", "prompt_tokens", "completion_tokens", "cost")]
            assert figures == pytest.approx(expected_sums[row["at"], row["series"]])


async def test_names_with_few_calls_are_merged_into_one_series(database: Database) -> None:
    database.prepare()
    calls = [CALLS[0]._replace(name=f"name-{n}") for n in range(20) for _ in range(n + 1)]
    await database.write(usage.append, calls)
    for step in ("hour", "day"):
        rows = await database.read(usage.course, 0.0, step, "name")
        assert {row["series"]: row["calls"] for row in rows} == {
            None: sum(range(1, 14)),
            **{f"name-{n}": n + 1 for n in range(13, 20)},
        }
