"""Shared parts of the screens: access to the daemon, display of its errors, and lists that are declared."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Input, Static

from portico.client import AsyncClient
from portico.errors import InvalidRequest
from portico.wire import Asked
from portico_tui.daemon import DaemonClient, DaemonError, Glance, Progressed
from portico_tui.link import Lost
from portico_tui.text import one_line
from portico_tui.widgets.cancels_workers import CancelsWorkers
from portico_tui.widgets.dialogs import Confirm, Form
from portico_tui.widgets.key_line import KeyLine
from portico_tui.widgets.question import ask_person
from portico_tui.widgets.table import Table
from portico_tui.widgets.table_rows import TableColumn
from portico_tui.widgets.top import Banner, Top
from portico_tui.widgets.working import Working

LOADING = "Loading …"
"""Text of a screen until the daemon has answered."""


@dataclass(frozen=True, slots=True)
class AppServices:
    """What a screen needs from the app: the daemon, a way to poll it now, and the titles of the screens, keyed by
    mode.
    """

    daemon: DaemonClient
    wake: Callable[[], None]
    titles: Mapping[str, str]


class PageScreen(CancelsWorkers, Screen[None]):
    """A screen that shows the daemon. It consists of the lines of `top`, the screen's own widgets, and a footer."""

    MODE: ClassVar[str]
    """The name of the app's mode that shows the screen."""

    TAB: ClassVar[str]
    """The label of the screen in the top line."""

    def __init__(self, services: AppServices) -> None:
        super().__init__()
        self.services = services
        self.daemon = services.daemon
        self.wake = services.wake

    @property
    def client(self) -> AsyncClient:
        """The client that calls the daemon."""
        return self.daemon.client

    def top(self) -> ComposeResult:
        """Compose the lines at the top of every screen."""
        yield Top(self.services.titles, self.MODE, self.daemon.place)
        yield Banner()

    def listen(self, show: Callable[[Glance], None]) -> None:
        """Call ``show`` with the daemon's state: immediately if the state is known, and whenever it changes."""

        def seen(glance: Glance | None) -> None:
            if glance is not None:
                show(glance)

        self.watch(self.app, "glance", seen)
        self.watch(self.app, "lost", self._show_connection)

    def _show_connection(self, loss: Lost | None) -> None:
        self.query_one(Banner).show(loss)

    @contextmanager
    def reporting(self, doing: str) -> Iterator[None]:
        """Show errors that occur inside the ``with`` block as notifications; ``doing`` is the title."""
        try:
            yield
        except DaemonError as error:
            self.notify(error.message, title=one_line(doing), severity="error", timeout=10, markup=False)
            # If the daemon has become unreachable, let the banner report that immediately.
            self.wake()
        except OSError as error:  # a local file
            reason = f"{error.strerror or error}: {error.filename or ''}"
            self.notify(reason, title=one_line(doing), severity="error", timeout=10, markup=False)

    async def ask(self, form: Form) -> dict[str, str] | None:
        """Show a form and return the answers, or ``None`` if the person cancelled. Call only from a worker."""
        return await self.app.push_screen_wait(form)

    async def sure(self, question: str, verb: str) -> bool:
        """Ask for confirmation, and return whether the person confirmed. Call only from a worker."""
        return await self.app.push_screen_wait(Confirm(question, verb))

    @work(group="question")
    async def answer_question(self, question: Asked) -> None:
        """Ask the person a question of a run, and send the answer."""
        with self.reporting("Answer"):
            await ask_person(self.app, self.client, question)

    def report(self, title: str, text: str) -> None:
        """Notify the person that an action has finished."""
        self.notify(one_line(text), title=title, markup=False)

    async def write_file(self, path: Path, data: bytes) -> None:
        """Write a new local file. Raises `InvalidRequest` if the file exists."""
        path = path.expanduser()  # noqa: ASYNC240  # no I/O

        def write() -> None:
            with path.open("xb") as file:
                file.write(data)

        try:
            await asyncio.to_thread(write)
        except FileExistsError as error:
            raise InvalidRequest(f"{path} already exists: choose another path.", param="path") from error
        self.report("Save", f"{path} is written.")

    async def work_through(self, label: str, run: AsyncIterator[Progressed]) -> None:
        """Show the progress of a run as a line in ``#runs`` until the run ends. If the run fails, raise its error."""
        line = Working(label)
        await self.query_one("#runs", Vertical).mount(line)
        try:
            async for progress in run:
                line.show(progress)
        finally:
            # Do not wait for the removal: when the app exits, it would never finish.
            line.remove()

    def keys(self) -> list[tuple[str, str]]:
        """Return the available keys and what they do: those of the screen, then of its tables, then the global keys."""
        everywhere = Binding.make_bindings(self.app.BINDINGS)
        tables = [
            binding
            for binding in Binding.make_bindings(Table.BINDINGS)
            if binding.tooltip and self.query(Table)
        ]
        return [
            (self.app.get_key_display(binding), binding.tooltip or binding.description)
            for binding in (*self.commands(), *tables, *everywhere)
        ]

    def commands(self) -> Iterable[Binding]:
        """Return the key bindings of this screen, in the order of declaration."""
        return Binding.make_bindings(type(self).BINDINGS)


Item = TypeVar("Item")
Method = TypeVar("Method", bound=Callable[..., Awaitable[None]])


@dataclass(frozen=True, slots=True)
class Action:
    """An action on a list, and its key. ``when`` decides for which rows the action is available; ``None`` means that
    it does not need a row.
    """

    key: str
    label: str
    tooltip: str
    when: Callable[[Any], bool] | None
    footer: bool


def action(key: str, label: str, tooltip: str, *, footer: bool = True) -> Callable[[Method], Method]:
    """Declare a method of a `ListingScreen` as the action of ``key``. The method runs as a worker; afterwards, the
    list is reloaded.
    """
    return _declare(Action(key, label, tooltip, None, footer))


def row_action(
    key: str,
    label: str,
    tooltip: str,
    *,
    when: Callable[[Any], bool] = lambda _row: True,
    footer: bool = True,
) -> Callable[[Method], Method]:
    """Declare a method as an action on the chosen row, which it receives. The action is dimmed for rows that ``when``
    rejects.
    """
    return _declare(Action(key, label, tooltip, when, footer))


def _declare(declared_action: Action) -> Callable[[Method], Method]:
    def mark(method: Method) -> Method:
        method.__dict__["declared"] = declared_action
        return method

    return mark


class ListingScreen(PageScreen, Generic[Item]):
    """A screen that shows a list from the daemon in a table, and polls it while the screen is open.

    A subclass declares the columns, the text for an empty list, the actions, and the detail of a row.
    """

    COLUMNS: ClassVar[Sequence[TableColumn[Any]]]
    EMPTY: ClassVar[str]

    LOOK_INTERVAL_S: ClassVar[float] = 2.0
    """Seconds between polls."""

    ACTIONS: ClassVar[Mapping[str, Action]] = {}
    CSS_PATH = "listing.tcss"

    def __init_subclass__(cls) -> None:
        actions = {
            name: found_action
            for name, value in vars(cls).items()
            if (found_action := _declared_action(value)) is not None
        }
        cls.ACTIONS = {**cls.ACTIONS, **actions}
        binding_types: list[BindingType] = [
            Binding(action.key, f"do('{name}')", action.label, tooltip=action.tooltip, show=action.footer)
            for name, action in cls.ACTIONS.items()
        ]
        cls.BINDINGS = [*binding_types, *vars(cls).get("BINDINGS", ())]
        super().__init_subclass__()

    def __init__(self, services: AppServices) -> None:
        super().__init__(services)
        self.items: dict[str, Item] = {}
        self.table = Table[Item](*self.COLUMNS, id="rows")
        self._possible: tuple[bool | None, ...] = ()

    @abstractmethod
    async def find(self) -> Sequence[Item] | None:
        """Request the current list and return it; ``None`` if the daemon has not answered yet. Raises
        `DaemonError`.
        """

    def identify(self, item: Item) -> str:
        """Return the key of a row: the item's id if it has one, otherwise its name."""
        return str(getattr(item, "id", "") or item.name)  # type: ignore[attr-defined]

    def detail(self, item: Item) -> Iterable[Content | str]:
        """Yield lines about the chosen row. If there are none, the detail takes no space."""
        return ()

    def notes(self) -> Iterable[Content | str]:
        """Yield lines to show below the detail, independent of the chosen row."""
        return ()

    def more(self) -> ComposeResult:
        """Compose further widgets below the table."""
        yield from ()

    def chose(self) -> None:
        """Called when another row is chosen or the list has changed."""

    def compose(self) -> ComposeResult:
        yield from self.top()
        with Vertical(id="body"):
            yield self.table
            yield Static(LOADING, id="empty", classes="empty")
        with VerticalScroll(id="about"):
            yield Static(id="detail")
        yield from self.more()
        yield Vertical(id="runs")
        yield KeyLine()

    @property
    def chosen(self) -> Item | None:
        """The item in the row under the cursor."""
        return self.table.chosen

    def on_mount(self) -> None:
        self.listen(self.seen)
        self.set_interval(self.LOOK_INTERVAL_S, self.look)
        self.table.display = False
        self.query_one("#about").display = False
        self.look()
        self.table.focus()

    def on_screen_resume(self) -> None:
        self.look()

    def seen(self, glance: Glance) -> None:
        """Called with each new state of the daemon."""

    @work(exclusive=True, group="look")
    async def look(self) -> None:
        """Reload the list, if this screen is visible."""
        if not (self.is_current and self.display):  # a screen that is being removed is not displayed
            return
        try:
            items = await self.find()
        except DaemonError as error:
            self.failed(error)
            return
        if items is not None:
            self.put(items)

    def failed(self, error: DaemonError) -> None:
        """Called when the list is unavailable, because the key has no access or the daemon is unreachable. In the
        latter case, the banner reports it.
        """
        if not self.items and self.query("#empty"):
            self.query_one("#empty", Static).update(Content(one_line(error.message)))

    def put(self, found_items: Iterable[Item]) -> None:
        """Show the items."""
        if not self.items:
            self.query_one("#empty", Static).update(Content(self.EMPTY))
        items = {self.identify(item): item for item in found_items}
        if list(items.items()) == list(self.items.items()):
            self._describe()
        else:
            self.items = items
            self.draw()

    def draw(self) -> None:
        """Show `items`."""
        self.table.put(self.items)
        self.table.display = bool(self.items)
        self.query_one("#empty").display = not self.items
        self._describe()

    @on(Table.Highlighted, "#rows")
    def _describe(self) -> None:
        item = self.chosen
        lines = [*(() if item is None else self.detail(item)), *self.notes()]
        self.query_one("#about").display = bool(lines)
        contents = [Content(line) if isinstance(line, str) else line for line in lines]
        self.query_one("#detail", Static).update(Content("\n").join(contents))
        self.chose()
        possible = tuple(self.check_action("do", (name,)) for name in self.ACTIONS)
        if possible != self._possible:  # only after a change, because this recomposes the footer
            self._possible = possible
            self.refresh_bindings()

    @on(Table.Selected, "#rows")
    def _selected(self) -> None:
        """Run the first declared row action when Enter is pressed."""
        name = next((name for name, action in self.ACTIONS.items() if action.key.startswith("enter")), None)
        if name is not None:
            self.action_do(name)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Dim actions that are unavailable for the chosen row. While the person types in an input, letter keys are
        text.
        """
        if action != "do":
            return True
        if isinstance(self.focused, Input):
            return None
        declared_action = self.ACTIONS[str(parameters[0])]
        if declared_action.when is None:
            return True
        item = self.chosen
        return True if item is not None and declared_action.when(item) else None

    @work(group="do")
    async def action_do(self, name: str) -> None:
        """Run the action declared under a name."""
        declared_action = self.ACTIONS[name]
        method = getattr(self, name)
        item = self.chosen
        if declared_action.when is not None and (item is None or not declared_action.when(item)):
            return
        with self.reporting(declared_action.label):
            await (method() if declared_action.when is None else method(item))
        self.look()
        self.wake()


def _declared_action(value: object) -> Action | None:
    found_action = getattr(value, "__dict__", {}).get("declared")
    return found_action if isinstance(found_action, Action) else None


class SublistScreen(ListingScreen[Item]):
    """A list that belongs to a row of another list, and opens on top of it. Esc closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", tooltip="Return to the previous list")
    ]

    def __init__(self, services: AppServices, heading: str) -> None:
        super().__init__(services)
        self._heading = heading

    def top(self) -> ComposeResult:
        yield from super().top()
        yield Static(Content(one_line(self._heading)), id="heading")

    def action_back(self) -> None:
        self.dismiss(None)
