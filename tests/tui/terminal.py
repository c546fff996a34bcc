"""The terminal UI without a terminal: connected to a daemon, controlled by keys, read as text."""

from __future__ import annotations

import asyncio
import builtins
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from textual import events
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input, Static, TextArea

from portico_tui.app import Portico
from portico_tui.daemon import DaemonClient, Glance
from portico_tui.screens.page import ListingScreen
from portico_tui.widgets.dialogs import Confirm, Form
from portico_tui.widgets.table import Table

CHECK_INTERVAL_S = 0.01
"""Seconds between two checks of a condition."""

POLL_CHECKS = 30
"""Checks of a condition between two polls of the daemon."""

MAX_TURNS = 100_000
"""Maximum number of turns of the event loop until an app has processed its input."""


async def process_input(min_sleep: float = 0, max_sleep: float = 1) -> None:
    """Run the event loop until all its tasks wait for a timer or for the daemon.

    Replaces ``textual._wait.wait_for_idle``, which sleeps for 20 ms, or for up to a second while the process computes.
    """
    loop = asyncio.get_running_loop()
    for _ in range(MAX_TURNS):
        await asyncio.sleep(0)
        if not loop._ready:  # type: ignore[attr-defined]  # asyncio has no public way to ask
            return
    raise TimeoutError("The app does not stop computing.")


@dataclass(frozen=True, slots=True)
class Terminal:
    """An open app with functions that press its keys."""

    app: Portico
    pilot: Pilot[DaemonClient]

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def type(self, text: str) -> None:
        """Paste into the focused widget, as one event instead of one for each character, and press Enter."""
        self.app.post_message(events.Paste(text))
        await self.pilot.press("enter")

    async def until(self, condition: Callable[[], object]) -> None:
        """Run the app until the condition is true; raise `TimeoutError` if it never is.

        A list that is visible is polled more often than the app does by itself.
        """
        async with asyncio.timeout(60):
            for check in itertools.count(1):
                if condition():
                    break
                await asyncio.sleep(CHECK_INTERVAL_S)
                if check % POLL_CHECKS == 0:
                    self._poll()
        await self.pilot.pause()

    def _poll(self) -> None:
        """Poll the daemon now, unless the last poll of the list has not ended."""
        self.app.action_reconnect()
        screen = self.app.screen
        if isinstance(screen, ListingScreen) and not self._is_loading:
            screen.look()

    @property
    def _is_loading(self) -> bool:
        """Whether a list waits for the daemon's answer."""
        return any(worker.group == "look" and not worker.is_finished for worker in self.app.workers)

    async def open(self, key: str, screen: str) -> None:
        """Go to a screen, and wait until the daemon has answered what it asks first."""
        await self.press(key)
        await self.until(lambda: type(self.app.screen).__name__ == screen and not self._is_loading)

    @property
    def glance(self) -> Glance:
        assert self.app.glance is not None
        return self.app.glance

    def rows(self, table: str) -> list[list[str]]:
        """Return the cells of a table on the screen."""
        return self.app.screen.query_one(table, Table).cells

    def row(self, table: str, name: str) -> list[str]:
        """Return the cells of the row that begins with ``name``, or an empty list if no such row exists."""
        return next((row for row in self.rows(table) if row[0] == name), [])

    async def choose(self, table: str, name: str) -> None:
        """Move the cursor of a table to the row that begins with ``name``."""
        self.app.screen.query_one(table).focus()
        place = [row[0] for row in self.rows(table)].index(name)
        await self.press("ctrl+home", *["down"] * place)

    def text(self, selector: str) -> str:
        """Return the text of a part of the screen."""
        return str(self.app.screen.query_one(selector, Static).render())

    async def go(self, mode: str) -> None:
        """Go to a screen by its mode."""
        self.app.switch_mode(mode)
        await self.until(lambda: getattr(self.app.screen, "MODE", "") == mode)

    async def over(self, kind: builtins.type[Screen[Any]]) -> None:
        """Wait until a dialog of the given kind, or another screen, is on top."""
        await self.until(lambda: isinstance(self.app.screen, kind) and self.app.screen.is_mounted)

    async def fill(self, **values: str) -> None:
        """Fill in the form that opens, and continue."""
        await self.over(Form)
        form = self.app.screen
        for name, value in values.items():
            line = form.query_one(f"#field-{name}")
            if isinstance(line, TextArea):
                line.text = value
            else:
                assert isinstance(line, Input)
                line.value = value
        await self.press("ctrl+s")

    async def agree(self) -> None:
        """Confirm the question on the screen."""
        await self.over(Confirm)
        await self.press("y")

    async def left(self) -> DaemonClient:
        """Wait until the app ends; return the daemon that is opened next."""
        async with asyncio.timeout(60):
            while self.app.return_value is None:  # noqa: ASYNC110  # Textual has no event for it
                await asyncio.sleep(0)
        return self.app.return_value

    @property
    def told(self) -> list[str]:
        """The notifications so far."""
        return [notification.message for notification in self.app._notifications]


@asynccontextmanager
async def terminal(
    url: str, key: str | None = None, *, size: tuple[int, int] = (80, 24), ready: bool = True
) -> AsyncIterator[Terminal]:
    """Yield the app connected to a daemon; with ``ready``, once the app is connected."""
    app = Portico(DaemonClient(url, key))
    async with app.run_test(size=size, notifications=True) as pilot:
        open_terminal = Terminal(app, pilot)
        await open_terminal.until(lambda: app.glance is not None or not ready)
        yield open_terminal
