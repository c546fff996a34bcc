"""`portico schedules` and `Client.schedules` against a daemon. tests/server/schedules tests the runs themselves."""

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
    made = command("schedules", "add", "morning", "--app", "handbook", "--input", "Which port?", *CRON)
    assert made.code == 0 and "morning is next due" in made.out
    [listed] = command("schedules", "list", "--json").json["data"]
    assert (listed["app"], listed["input"], listed["timezone"]) == (
        "handbook",
        "Which port?",
        "Europe/Berlin",
    )
    assert "0 7 * * 1-5 (Europe/Berlin)" in command("schedules", "list", "--all").out
    given = tmp_path / "input.json"
    given.write_text(json.dumps({"q": 1}))
    changed = command(
        "schedules", "change", "morning", "--every", "15m", "--input-file", str(given), "--json"
    )
    assert (changed.json["every"], changed.json["cron"], changed.json["input"]) == ("15m", None, {"q": 1})
    times = command("schedules", "next", "morning", "--count", "2", "--json").json["data"]
    assert times[1] - times[0] == 900
    assert len(command("schedules", "next", "--cron", "@daily", "--count", "3").out.splitlines()) == 3
    assert "is paused: Paused by hand." in command("schedules", "pause", "morning").out
    run = command("schedules", "run", "morning", "--json").json["run"]
    shown = command("schedules", "show", "morning")
    assert run in shown.out and "hand" in shown.out and "every 15m" in shown.out
    assert command("schedules", "show", "morning", "--json").json["runs"][0]["run"] == run
    assert "next due" in command("schedules", "resume", "morning").out
    assert "Would remove" in command("schedules", "remove", "morning", "--dry-run").out
    assert command("schedules", "remove", "morning", "--yes").code == 0
    gone = command("schedules", "show", "morning")
    assert gone.code == 1 and "The schedule 'morning' does not exist." in gone.err


def test_an_invalid_schedule_is_refused_with_a_reason(command: Command) -> None:
    wrong = command("schedules", "add", "x", "--app", "handbook", "--cron", "0 7 * *")
    assert wrong.code == 1 and "expected five fields" in wrong.err
    neither = command("schedules", "next")
    assert neither.code == 1 and "Give either the NAME" in neither.err
    unknown = command("schedules", "add", "x", "--app", "nothing", "--every", "1h")
    assert unknown.code == 1 and "nothing" in unknown.err


async def test_the_async_client_manages_schedules(daemon: Daemon) -> None:
    async with AsyncClient(daemon.url) as client:
        made = await client.schedules.create(
            "sdk", store="handbook", every="1h", overlap="queue", pause_after=0
        )
        assert (made.store, made.app, made.overlap, made.shared) == ("handbook", None, "queue", True)
        assert await client.schedules.get(made.id) == made
        changed = await client.schedules.change("sdk", app="handbook", name="other")
        assert (changed.store, changed.app, changed.name) == (None, "handbook", "other")
        assert [one.name for one in await client.schedules.list(everyone=True)] == ["other"]
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
