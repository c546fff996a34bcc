"""Behaviour of every screen."""

from __future__ import annotations

import asyncio
import socket

import pytest
from tests.daemon import Daemon
from tests.tui.terminal import terminal
from textual.command import CommandPalette
from textual.widgets import Footer, Static
from textual.widgets._toast import Toast

from portico_tui.app import TITLES, Portico
from portico_tui.screens.prompts import PromptsScreen
from portico_tui.widgets.dialogs import Choose, Help

MIN_BODY_LINES = 4
"""Lines of a list that are visible on the smallest terminal: its titles and three rows."""

SHARES = [list(TITLES)[first::3] for first in range(3)]
"""The screens in three tests: an app that opens all of them takes more than five seconds."""

SCREENS = (("1", "Models"), ("2", "Documents"), ("3", "Chat"), ("4", "Approvals"), ("5", "Finetunes"))


@pytest.mark.parametrize("modes", SHARES, ids=lambda modes: modes[0])
@pytest.mark.parametrize("size", [(80, 24), pytest.param((130, 40), marks=pytest.mark.slow)])
async def test_every_screen_is_reached_by_its_name_and_fits_the_window(
    busy_daemon: Daemon, size: tuple[int, int], modes: list[str]
) -> None:
    async with terminal(busy_daemon.url, size=size) as screen:
        for mode, title in ((mode, TITLES[mode]) for mode in modes):
            await screen.press("ctrl+g")
            await screen.over(Choose)
            await screen.type(title)
            await screen.until(lambda mode=mode: getattr(screen.app.screen, "MODE", "") == mode)
            await screen.until(lambda: screen.app.screen.query("FooterKey"))
            await screen.until(
                lambda: screen.app.screen.query_one(".tabs").region.contains_region(
                    screen.app.screen.query_one(".tab.-open").region
                )
            )
            assert screen.app.screen.focused is not None
            assert screen.app.screen.query_one("#body").region.height >= MIN_BODY_LINES, title
            assert screen.app.screen.max_scroll_y == 0
            window = screen.app.screen.region
            for part in screen.app.screen.children:
                assert part.region in window, part
            footer = screen.app.screen.query_one(Footer)
            assert footer.max_scroll_x == 0, [str(footer_key) for footer_key in footer.query("FooterKey")]
            address = screen.app.screen.query_one(".address", Static)
            assert address.display == (size[0] > 80), "where there is no room for it, it is left out, not cut"
            await screen.press("escape")


@pytest.mark.slow
@pytest.mark.parametrize("modes", SHARES, ids=lambda modes: modes[0])
async def test_no_screen_is_empty_before_the_daemon_has_answered(modes: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silence:
        address = f"http://127.0.0.1:{silence.getsockname()[1]}"
        async with terminal(address, ready=False) as screen:
            for mode in modes:
                await screen.go(mode)
                part = {"chat": "#partner", "documents": "#no-stores"}.get(mode, "#empty")
                assert screen.text(part) == "Loading …", mode
                await screen.press("escape")


async def test_keys_open_the_screens_and_say_which_is_open(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        for key, name in (*SCREENS[1:], SCREENS[0]):
            await screen.open(key, f"{name}Screen")
            tab_text = str(screen.app.screen.query_one(".tab.-open", Static).render())
            assert (
                tab_text.replace("-", "") == f"{key} {name}"
            )  # the title Fine-tunes belongs to the class Finetunes
            await screen.press("escape")  # leaves the chat's input line


@pytest.mark.slow
async def test_every_key_of_a_screen_stands_in_its_help(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        for key, name in SCREENS:
            await screen.open(key, f"{name}Screen")
            await screen.press("escape")
            page = screen.app.screen
            await screen.press("question_mark")
            await screen.until(lambda: isinstance(screen.app.screen, Help))
            help_text = "\n".join(str(part.render()) for part in screen.app.screen.query(Static))
            for binding in page.commands():  # type: ignore[attr-defined]
                assert binding.tooltip in help_text
            await screen.press("escape")
            await screen.until(lambda: not isinstance(screen.app.screen, Help))


async def test_the_command_palette_offers_what_the_screen_can_do(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        command_titles = {command.title for command in screen.app.get_system_commands(screen.app.screen)}
        assert {"Load", "Unload", "Logs", "Pull", "Documents", "Chat"} <= command_titles
        await screen.press("ctrl+p")
        await screen.until(lambda: isinstance(screen.app.screen, CommandPalette))
        await screen.press(*"Go to Chat")
        await screen.press(*["backspace"] * 10, *"Documents")
        await screen.until(lambda: screen.app.screen.query("CommandList").first().option_count)  # type: ignore[attr-defined]
        await screen.press("enter")
        await screen.until(lambda: type(screen.app.screen).__name__ == "DocumentsScreen")


async def test_no_task_outlives_the_app(busy_daemon: Daemon) -> None:
    """Requests that are in progress when the app ends would leave their connections open."""
    tasks_before = asyncio.all_tasks()
    async with terminal(busy_daemon.url) as screen:
        for mode in TITLES:
            screen.app.switch_mode(mode)
            await asyncio.sleep(0)
    assert asyncio.all_tasks() == tasks_before


async def test_no_worker_outlives_the_widgets_of_its_screen(
    busy_daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request may be answered while its screen is being removed."""

    search_begun = asyncio.Event()

    async def describe_without_end(screen: PromptsScreen) -> None:
        search_begun.set()
        while True:
            screen.put(())
            await asyncio.sleep(0)

    monkeypatch.setattr(PromptsScreen, "find", describe_without_end)
    async with terminal(busy_daemon.url) as screen:
        screen.app.switch_mode(PromptsScreen.MODE)
        await search_begun.wait()


async def test_q_quits(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url) as screen:
        await screen.press("q")
    assert isinstance(screen.app, Portico)
    assert screen.app.return_code == 0


async def test_an_unknown_api_key_is_reported_in_the_banner(busy_daemon: Daemon) -> None:
    async with terminal(busy_daemon.url, "pk-of-somebody-else", ready=False) as screen:
        await screen.until(lambda: screen.app.lost is not None)
        assert "Unknown API key; it may have been revoked" in screen.text("Banner")


async def test_a_notification_that_expires_while_its_toast_is_made_does_not_freeze_the_app(
    daemon: Daemon,
) -> None:
    async with terminal(daemon.url) as screen:
        screen.app.notify("Saved.")
        await screen.until(lambda: screen.told == ["Saved."])
        [notification] = screen.app._notifications
        notification.timeout = -1.0
        assert notification.has_expired and notification.time_left > 0
        await screen.app.screen.mount(Toast(notification))
        await screen.press("question_mark")
        await screen.over(Help)
