"""The screen Fine-tunes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.daemon import Daemon
from tests.tui.terminal import terminal

from portico import Client
from portico_tui.widgets.chart import Chart


@pytest.fixture(scope="module")
def examples(empty_daemon: Daemon) -> str:
    def line(number: int) -> dict[str, Any]:
        messages = [{"role": "user", "content": f"{number}?"}, {"role": "assistant", "content": f"{number}!"}]
        return {"messages": messages}

    data = "\n".join(json.dumps(line(number)) for number in range(12)).encode()
    with Client(empty_daemon.url) as client:
        client.deployments.add("echo", "fake://")
        return client.files.add(data, filename="a.jsonl", purpose="fine-tune").id


async def test_an_empty_finetunes_screen_shows_a_notice_and_ignores_keys(empty_daemon: Daemon) -> None:
    async with terminal(empty_daemon.url) as screen:
        await screen.open("5", "FinetunesScreen")
        assert "No fine-tuning jobs yet" in screen.text("#empty")
        await screen.press("c", "p")
        assert screen.told == []


@pytest.mark.slow
async def test_a_job_is_watched_paused_resumed_and_cancelled(empty_daemon: Daemon, examples: str) -> None:
    with Client(empty_daemon.url) as client:
        client.tuning.create("echo", examples, hyperparameters={"n_epochs": 900, "batch_size": 1})
    async with terminal(empty_daemon.url) as screen:
        await screen.open("5", "FinetunesScreen")
        await screen.until(lambda: screen.rows("#rows"))
        assert screen.rows("#rows")[0][1] == "echo"
        await screen.until(lambda: screen.app.screen.query_one(Chart).series)
        assert "training loss=" in screen.text("#figures")
        await screen.until(lambda: screen.rows("#rows")[0][3] == "◐ training")
        await screen.press("p")
        await screen.until(lambda: screen.rows("#rows")[0][3] == "◑ paused")
        await screen.press("p")
        await screen.until(lambda: screen.rows("#rows")[0][3] in ("◐ training", "○ queued"))
        await screen.press("c")
        await screen.until(lambda: type(screen.app.screen).__name__ == "Confirm")
        await screen.press("y")
        await screen.until(lambda: type(screen.app.screen).__name__ == "FinetunesScreen")
        await screen.until(lambda: screen.rows("#rows")[0][3] == "○ cancelled")
        assert screen.told == []
