"""The screen Approvals."""

from __future__ import annotations

import asyncio

import pytest
from tests.daemon import Daemon
from tests.tui.terminal import terminal

from portico import AsyncClient, Client
from portico_tui.screens.chat import ChatScreen
from portico_tui.widgets.dialogs import Confirm


@pytest.fixture(scope="module", autouse=True)
def _asks(empty_daemon: Daemon) -> None:
    """Add a tool that asks before each call."""
    with Client(empty_daemon.url) as client:
        client.tools.add("wipe", command=["echo", "wiped", "{path}"], approval="always")


async def test_an_empty_approvals_screen_shows_a_notice_and_ignores_keys(empty_daemon: Daemon) -> None:
    async with terminal(empty_daemon.url) as screen:
        await screen.open("4", "ApprovalsScreen")
        assert screen.text("#empty") == "No open questions."
        await screen.press("a", "r")
        assert screen.told == []


async def test_a_tool_is_approved_and_another_refused(empty_daemon: Daemon) -> None:
    async with terminal(empty_daemon.url) as screen, AsyncClient(empty_daemon.url) as client:
        await screen.open("4", "ApprovalsScreen")
        first = asyncio.create_task(client.tools.call("wipe", {"path": "/1"}))
        await screen.until(lambda: screen.rows("#rows"))
        assert screen.rows("#rows")[0][1:] == ["approval", "wipe", "path=/1"]
        assert '"path": "/1"' in screen.text("#detail")
        await screen.press("a")
        assert (await first).text.strip() == "wiped /1"
        await screen.until(lambda: not screen.rows("#rows"))
        second = asyncio.create_task(client.tools.call("wipe", {"path": "/2"}))
        await screen.until(lambda: screen.rows("#rows"))
        await screen.press("r")
        assert (await second).is_error


async def test_an_agent_in_the_chat_asks_in_place(empty_daemon: Daemon) -> None:
    script = [{"match": "wipe", "tool_calls": [{"name": "wipe", "arguments": {"path": "/3"}}], "times": 1}]
    async with AsyncClient(empty_daemon.url) as client:
        await client.deployments.add("careful", "fake://", parameters={"script": script})
        await client.apps.deploy(
            "janitor", {"portico_agent": 1, "model": "careful", "tools": ["wipe"]}, kind="agent"
        )
        async with terminal(empty_daemon.url) as screen:
            await screen.open("3", "ChatScreen")
            await screen.until(lambda: screen.text("#partner") == "Talking to janitor · agent")
            await screen.type("wipe it")
            await screen.over(Confirm)
            assert '"path": "/3"' in screen.text(".about")
            await screen.agree()
            await screen.until(
                lambda: isinstance(screen.app.screen, ChatScreen) and "tokens" in screen.text(".state")
            )
        await client.apps.remove("janitor")
