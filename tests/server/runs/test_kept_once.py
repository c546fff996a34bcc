"""A long result of a durable flow stands once in the database, and is read everywhere as before."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.porch import Porch, porch

MARK = "a long answer that is kept once "


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Porch]:
    async with porch(tmp_path) as served:
        yield served


async def ran(house: Porch, step: dict[str, Any], value: Any) -> tuple[str, Any]:
    """The id of a durable run and its result, as its events tell it."""
    flow = {"portico_flow": 1, "name": "kept", "durability": "normal", "step": step}
    answer = await house.client.post("/api/flows/run", json={"flow": flow, "input": value})
    answer.raise_for_status()
    lines = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert lines[-1]["type"] == "finished", lines[-1]
    await house.parts.scheduler.settled(answer.headers["x-portico-run"])
    return answer.headers["x-portico-run"], lines[-1]["result"]


def held(house: Porch, run: str) -> dict[str, int]:
    """How often the text stands in each table, in what ended and not in what was asked."""
    database = sqlite3.connect(house.parts.settings.database_path)
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


async def test_a_long_result_is_kept_with_its_step_alone(house: Porch) -> None:
    run, result = await ran(house, STEP, 2_000)
    assert result == MARK + "x" * 2_000
    assert held(house, run) == {"runs": 0, "run_events": 0, "steps": 1}
    events = await house.client.get(f"/api/runs/{run}/events")
    told = [json.loads(line[6:]) for line in events.text.splitlines() if line.startswith("data: ")]
    assert told[-1] == {"type": "finished", "result": result}
    assert sum(MARK in line for line in events.text.splitlines()) == 1
    found = await house.client.get(f"/api/runs/{run}/trace?full=true")
    assert found.json()["steps"][-1]["output"] == result


async def test_a_run_that_is_done_again_from_a_step_has_its_new_result(house: Porch) -> None:
    run, first = await ran(house, STEP, 2_000)
    answer = await house.client.post(f"/api/runs/{run}/resume", json={"from": "say"})
    answer.raise_for_status()
    events = await house.client.get(f"/api/runs/{run}/events")
    assert json.loads(events.text.strip().splitlines()[-1][6:])["result"] == first


async def test_a_short_result_stands_with_its_run(house: Porch) -> None:
    run, result = await ran(house, STEP, 1)
    assert result == MARK + "x"
    assert held(house, run) == {"runs": 1, "run_events": 0, "steps": 1}
