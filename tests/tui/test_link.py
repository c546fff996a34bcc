"""The connection to the daemon: lost, retried, restored."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests import daemon as daemons
from tests.tui.terminal import terminal

from portico_tui.daemon import DaemonClient
from portico_tui.link import MAX_RETRY_INTERVAL_S, Link, Lost, back_off
from portico_tui.widgets.top import Banner


def test_the_pause_doubles_up_to_a_limit() -> None:
    pauses = [back_off(failures) for failures in range(1, 50)]
    assert pauses[1] == 2 * pauses[0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == MAX_RETRY_INTERVAL_S


@pytest.mark.slow
async def test_a_lost_daemon_is_reported_on_every_screen_until_it_reconnects(tmp_path: Path) -> None:
    with daemons.running(tmp_path / "data") as first:
        port = str(urlsplit(first.url).port)
        async with terminal(first.url) as screen:
            first.stop()
            await screen.press("ctrl+r")
            await screen.until(lambda: screen.app.lost is not None)
            for key, name in (("1", "Models"), ("2", "Documents"), ("3", "Chat")):
                await screen.open(key, f"{name}Screen")
                await screen.until(lambda: screen.app.screen.query_one(Banner).region.height)
                assert first.url in screen.text("Banner")
            with daemons.running(tmp_path / "data", "--port", port) as second:
                assert second.url == first.url
                await screen.press("ctrl+r")
                await screen.until(lambda: screen.app.lost is None)
                assert not screen.app.screen.query_one(Banner).region.height


async def test_without_a_daemon_the_screen_says_how_to_start_one() -> None:
    async with terminal("http://127.0.0.1:9", ready=False) as screen:
        await screen.until(lambda: screen.app.lost is not None)
        assert "portico up" in screen.text("Banner")


@pytest.mark.parametrize("wakes", [1, 3])
async def test_each_wake_polls_the_daemon_once(wakes: int) -> None:
    loss_queue: asyncio.Queue[Lost] = asyncio.Queue()
    daemon = DaemonClient("http://127.0.0.1:9")
    link = Link(daemon, lambda glance: None, loss_queue.put_nowait)
    keeping = asyncio.create_task(link.keep())
    for _ in range(wakes):
        await loss_queue.get()
        link.wake()
    assert (await loss_queue.get()).again_in == back_off(wakes + 1)
    keeping.cancel()
    await asyncio.wait([keeping])
    await daemon.close()
