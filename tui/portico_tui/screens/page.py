"""What the screens share: the daemon, news about it, and errors told as the daemon's own sentence."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, TypeVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import Screen

from portico_tui.daemon import Daemon, DaemonError, Glance, Progress
from portico_tui.link import Lost
from portico_tui.widgets.dialogs import Confirm, Form
from portico_tui.widgets.table import Table
from portico_tui.widgets.top import Banner, Top
from portico_tui.widgets.working import Working


@dataclass(frozen=True, slots=True)
class AppServices:
    """What a screen is given: the daemon, and a way to have it looked at now."""

    daemon: Daemon
    wake: Callable[[], None]


class Page(Screen[None]):
    """A screen over the daemon. It composes its `top`, its own parts and a footer."""

    def __init__(self, services: AppServices) -> None:
        super().__init__()
        self.daemon = services.daemon
        self.wake = services.wake

    def top(self, mode: str) -> ComposeResult:
        """The lines that every screen begins with."""
        yield Top(mode, self.daemon.url)
        yield Banner()

    def listen(self, show: Callable[[Glance], None]) -> None:
        """Call ``show`` with how the daemon looks, now if that is known and whenever it changes."""

        def seen(glance: Glance | None) -> None:
            if glance is not None:
                show(glance)

        self.watch(self.app, "glance", seen)
        self.watch(self.app, "lost", self._show_connection)

    def _show_connection(self, lost: Lost | None) -> None:
        self.query_one(Banner).show(lost)

    @contextmanager
    def reporting(self, doing: str) -> Iterator[None]:
        """Tell a person about an error of the daemon in its own words, under a title that says what failed."""
        try:
            yield
        except DaemonError as error:
            self.notify(error.message, title=doing, severity="error", timeout=10, markup=False)
            # Perhaps it is gone: then the banner should say so at once.
            self.wake()

    async def ask(self, form: Form) -> dict[str, str] | None:
        """What was filled in; ``None`` if it was cancelled. Only from a worker."""
        return await self.app.push_screen_wait(form)

    async def sure(self, question: str, verb: str) -> bool:
        """Whether a person wants it done. Only from a worker."""
        return await self.app.push_screen_wait(Confirm(question, verb))

    async def work_through(self, label: str, run: AsyncIterator[Progress], at: Vertical) -> None:
        """Show a run as a line in ``at`` until it ends. Raises what the run failed with."""
        line = Working(label)
        await at.mount(line)
        try:
            async for progress in run:
                line.show(progress)
        finally:
            # Not awaited: on the way out of the app there is nobody left to take it away.
            line.remove()

    def keys(self) -> list[tuple[str, str]]:
        """The keys that work here and what they do: the screen's own, then those that work everywhere."""
        everywhere = Binding.make_bindings(self.app.BINDINGS)
        return [
            (self.app.get_key_display(binding), binding.tooltip or binding.description)
            for binding in (*self.commands(), *everywhere)
        ]

    def commands(self) -> Iterable[Binding]:
        """What can be done on this screen, in the order of its declaration."""
        return Binding.make_bindings(type(self).BINDINGS)


class Identified(Protocol):
    """What can be a row of a list."""

    @property
    def id(self) -> str: ...


Item = TypeVar("Item", bound=Identified)


class Listing(Page, Generic[Item]):
    """A screen over one list of the daemon in one table, looked at again and again while the screen is open."""

    LOOK_AGAIN: ClassVar[float]
    """Seconds between two looks."""

    def __init__(self, services: AppServices) -> None:
        super().__init__(services)
        self.items: dict[str, Item] = {}

    @abstractmethod
    async def find(self) -> Sequence[Item]:
        """The list as it is now. Raises `DaemonError`."""

    @abstractmethod
    def draw(self) -> None:
        """Show `items`."""

    @property
    def chosen(self) -> Item | None:
        """What the cursor stands on."""
        key = self.query_one(Table).current
        return None if key is None else self.items.get(key)

    def on_mount(self) -> None:
        self.listen(lambda _glance: None)
        self.set_interval(self.LOOK_AGAIN, self.look)
        self.draw()
        self.look()
        self.query_one(Table).focus()

    @work(exclusive=True, group="look")
    async def look(self) -> None:
        """Have the list again, if this is the screen that is seen."""
        if not self.is_current:
            return
        try:
            found = await self.find()
        except DaemonError:
            return  # the banner says that the daemon is away
        if not self.query(Table):
            return  # the app was left meanwhile
        self.items = {item.id: item for item in found}
        self.draw()
        self.refresh_bindings()
