"""The terminal UI without a terminal: opened over a daemon, driven by keys, read as text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from textual.pilot import Pilot
from textual.widgets import Static

from portico_tui.app import Portico
from portico_tui.daemon import Daemon, Glance
from portico_tui.widgets.table import Table


@dataclass(frozen=True, slots=True)
class Terminal:
    """An open app and the hands on its keys."""

    app: Portico
    pilot: Pilot[None]

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def type(self, text: str) -> None:
        """Write into what has the focus, and end the line."""
        await self.pilot.press(*text, "enter")

    async def until(self, condition: Callable[[], object]) -> None:
        """Let the app work until something holds; `TimeoutError` if it never does."""
        async with asyncio.timeout(30):
            while not condition():
                await self.pilot.pause()
        await self.pilot.pause()

    async def open(self, key: str, screen: str) -> None:
        """Go to a screen."""
        await self.press(key)
        await self.until(lambda: type(self.app.screen).__name__ == screen)

    @property
    def glance(self) -> Glance:
        assert self.app.glance is not None
        return self.app.glance

    def rows(self, table: str) -> list[list[str]]:
        """The cells of a table of the screen."""
        found = self.app.screen.query_one(table, Table)
        return [[cell.plain for cell in found.get_row_at(row)] for row in range(found.row_count)]

    def row(self, table: str, name: str) -> list[str]:
        """The cells of the row that begins with ``name``; none if there is no such row."""
        return next((row for row in self.rows(table) if row[0] == name), [])

    async def choose(self, table: str, name: str) -> None:
        """Put the cursor of a table on the row that begins with ``name``."""
        self.app.screen.query_one(table).focus()
        place = [row[0] for row in self.rows(table)].index(name)
        await self.press("ctrl+home", *["down"] * place)

    def text(self, selector: str) -> str:
        """What a part of the screen says."""
        return str(self.app.screen.query_one(selector, Static).render())

    @property
    def told(self) -> list[str]:
        """The notifications so far."""
        return [notification.message for notification in self.app._notifications]


@asynccontextmanager
async def terminal(
    url: str, key: str | None = None, *, size: tuple[int, int] = (80, 24), ready: bool = True
) -> AsyncIterator[Terminal]:
    """The app over a daemon; with ``ready`` once it has seen it."""
    app = Portico(Daemon(url, key))
    async with app.run_test(size=size, notifications=True) as pilot:
        opened = Terminal(app, pilot)
        await opened.until(lambda: app.glance is not None or not ready)
        yield opened
