"""`portico schedules` and `Client.schedules` against a daemon.

tests/server/features/schedules tests the runs themselves.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.client.cli.conftest import Command
from tests.daemon import Daemon

from portico import AsyncClient, InvalidRequest, NotFound

CRON = ("--cron", "0 7 * * 1-5", "--timezone", "Europe/Berlin")


def test_a_schedule_is_made_shown_changed_run_and_removed(command: Command, tmp_path: Path) -> None:
    assert "No schedules yet" in command("schedules", "list").out
    assert (
        len(command("schedules", "add", "morning", "--app", "handbook", *CRON, "--dry-run").out.splitlines())
        == 5
    )
    creation = command("schedules", "add", "morning", "--app", "handbook", "--input", "Which port?", *CRON)
    assert creation.code == 0 and "morning is next due" in creation.out
    [schedule] = command("schedules", "list", "--json").json["data"]
    assert (schedule["app"], schedule["input"], schedule["timezone"]) == (
        "handbook",
        "Which port?",
        "Europe/Berlin",
    )
    assert "0 7 * * 1-5 (Europe/Berlin)" in command("schedules", "list", "--all").out
    input_file = tmp_path / "input.json"
    input_file.write_text(json.dumps({"q": 1}))
    change = command(
        "schedules", "change", "morning", "--every", "15m", "--input-file", str(input_file), "--json"
    )
    assert (change.json["every"], change.json["cron"], change.json["input"]) == ("15m", None, {"q": 1})
    times = command("schedules", "next", "morning", "--count", "2", "--json").json["data"]
    assert times[1] - times[0] == 900
    assert len(command("schedules", "next", "--cron", "@daily", "--count", "3").out.splitlines()) == 3
    assert "is paused: Paused by hand." in command("schedules", "pause", "morning").out
    run = command("schedules", "run", "morning", "--json").json["run"]
    details = command("schedules", "show", "morning")
    assert run in details.out and "hand" in details.out and "every 15m" in details.out
    assert command("schedules", "show", "morning", "--json").json["runs"][0]["run"] == run
    assert "next due" in command("schedules", "resume", "morning").out
    assert "Would remove" in command("schedules", "remove", "morning", "--dry-run").out
    assert command("schedules", "remove", "morning", "--yes").code == 0
    missing_result = command("schedules", "show", "morning")
    assert missing_result.code == 1 and "The schedule 'morning' does not exist." in missing_result.err


def test_an_invalid_schedule_is_refused_with_a_reason(command: Command) -> None:
    wrong = command("schedules", "add", "x", "--app", "handbook", "--cron", "0 7 * *")
    assert wrong.code == 1 and "expected five fields" in wrong.err
    neither = command("schedules", "next")
    assert neither.code == 1 and "Give either the NAME" in neither.err
    unknown = command("schedules", "add", "x", "--app", "nothing", "--every", "1h")
    assert unknown.code == 1 and "nothing" in unknown.err


async def test_the_async_client_manages_schedules(daemon: Daemon) -> None:
    async with AsyncClient(daemon.url) as client:
        schedule = await client.schedules.create(
            "sdk", store="handbook", every="1h", overlap="queue", pause_after=0
        )
        assert (schedule.store, schedule.app, schedule.overlap, schedule.shared) == (
            "handbook",
            None,
            "queue",
            True,
        )
        assert await client.schedules.get(schedule.id) == schedule
        changed_schedule = await client.schedules.change("sdk", app="handbook", name="other")
        assert (changed_schedule.store, changed_schedule.app, changed_schedule.name) == (
            None,
            "handbook",
            "other",
        )
        assert [entry.name for entry in await client.schedules.list(everyone=True)] == ["other"]
        assert (await client.schedules.pause("other")).paused
        assert (await client.schedules.resume("other")).paused is None
        first, second = await client.schedules.next("other", count=2)
        assert second - first == 3_600
        assert len(await client.schedules.preview(cron="@daily", count=3)) == 3
        assert await client.schedules.runs("other") == []
        assert (await client.schedules.run("other")).startswith("run_")
        assert (await client.schedules.runs("other", limit=1))[0].cause == "hand"
        with pytest.raises(InvalidRequest):
            await client.schedules.change("other", every="1s")
        await client.schedules.remove("other")
        with pytest.raises(NotFound):
            await client.schedules.get("other")
