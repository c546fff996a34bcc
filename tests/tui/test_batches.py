"""The screen Batches."""

from __future__ import annotations

from typing import Any

import pytest
from tests.daemon import Daemon
from tests.tui.terminal import terminal

from portico import Client


def body(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "clerk", "messages": [{"role": "user", "content": text}], **more}


async def test_an_empty_batches_screen_shows_a_notice_and_ignores_keys(empty_daemon: Daemon) -> None:
    async with terminal(empty_daemon.url) as screen:
        await screen.open("6", "BatchesScreen")
        assert "No batches yet" in screen.text("#empty")
        await screen.press("c")
        assert screen.told == []


@pytest.mark.slow
async def test_batches_are_watched_and_cancelled(empty_daemon: Daemon) -> None:
    with Client(empty_daemon.url) as client:
        script = [{"match": "^wait", "content": "at last", "delay": 600}]
        client.deployments.add("clerk", "fake://", parameters={"script": script})
        client.batches.wait(client.batches.create([body("hello", stream=True)]).id)
        client.batches.create([body("hello"), body("wait")])
    async with terminal(empty_daemon.url) as screen:
        await screen.open("6", "BatchesScreen")
        await screen.until(lambda: screen.rows("#rows"))
        await screen.until(lambda: screen.rows("#rows")[0][2:5] == ["clerk", "◐ at work", "1 of 2"])
        assert screen.rows("#rows")[1][3] == "✗ failed"
        await screen.press("c")
        await screen.until(lambda: type(screen.app.screen).__name__ == "Confirm")
        await screen.press("y")
        await screen.until(lambda: type(screen.app.screen).__name__ == "BatchesScreen")
        await screen.until(lambda: screen.rows("#rows")[0][3] == "○ cancelled")
        assert "portico batches results batch_" in screen.text("#detail")
        await screen.press("down")
        await screen.until(lambda: "Line 1: 'stream' has no meaning" in screen.text("#detail"))
        assert screen.told == []
