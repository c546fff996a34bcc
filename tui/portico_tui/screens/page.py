"""What the screens share: the daemon and news about it, errors in the daemon's words, and how a list is declared."""

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
from portico_tui.daemon import DaemonClient, DaemonError, Glance, Progressed
from portico_tui.link import Lost
from portico_tui.text import one_line
from portico_tui.widgets.dialogs import Confirm, Form
from portico_tui.widgets.key_line import KeyLine
from portico_tui.widgets.table import Table
from portico_tui.widgets.table_rows import TableColumn
from portico_tui.widgets.top import Banner, Top
from portico_tui.widgets.working import Working


@dataclass(frozen=True, slots=True)
class AppServices:
    """What a screen is given: the daemon, a way to have it looked at now, and the titles of the screens by mode."""

    daemon: DaemonClient
    wake: Callable[[], None]
    titles: Mapping[str, str]


class PageScreen(Screen[None]):
    """A screen over the daemon. It composes its `top`, its own parts and a footer."""

    MODE: ClassVar[str]
    """The name of the screen among the modes of the app."""

    TAB: ClassVar[str]
    """What stands for it in the first line."""

    def __init__(self, services: AppServices) -> None:
        super().__init__()
        self.services = services
        self.daemon = services.daemon
        self.wake = services.wake

    @property
    def client(self) -> AsyncClient:
        """What speaks to the daemon."""
        return self.daemon.client

    def top(self) -> ComposeResult:
        """The lines that every screen begins with."""
        yield Top(self.services.titles, self.MODE, self.daemon.place)
        yield Banner()

    def listen(self, show: Callable[[Glance], None]) -> None:
        """Call ``show`` with how the daemon looks, now if that is known and whenever it changes."""

        def seen(glance: Glance | None) -> None:
            if glance is not None:
                show(glance)

        self.watch(self.app, "glance", seen)
        self.watch(self.app, "lost", self._show_connection)

    def _show_connection(self, loss: Lost | None) -> None:
        self.query_one(Banner).show(loss)

    @contextmanager
    def reporting(self, doing: str) -> Iterator[None]:
        """Report an error of the daemon in its own words, under a title that says what failed."""
        try:
            yield
        except DaemonError as error:
            self.notify(error.message, title=one_line(doing), severity="error", timeout=10, markup=False)
            # Perhaps it is gone: then the banner should say so at once.
            self.wake()
        except OSError as error:  # a file of this machine
            reason = f"{error.strerror or error}: {error.filename or ''}"
            self.notify(reason, title=one_line(doing), severity="error", timeout=10, markup=False)

    async def ask(self, form: Form) -> dict[str, str] | None:
        """What was filled in; ``None`` if it was cancelled. Only from a worker."""
        return await self.app.push_screen_wait(form)

    async def sure(self, question: str, verb: str) -> bool:
        """Whether a person wants it done. Only from a worker."""
        return await self.app.push_screen_wait(Confirm(question, verb))

    def report(self, title: str, text: str) -> None:
        """Say that something is done."""
        self.notify(one_line(text), title=title, markup=False)

    async def write_file(self, path: Path, data: bytes) -> None:
        """Write a new file on this machine. Raises `InvalidRequest` if there is one."""
        path = path.expanduser()  # noqa: ASYNC240  # no I/O

        def write() -> None:
            with path.open("xb") as file:
                file.write(data)

        try:
            await asyncio.to_thread(write)
        except FileExistsError as error:
            raise InvalidRequest(f"{path} is there already: give another place.", param="path") from error
        self.report("Save", f"{path} is written.")

    async def work_through(self, label: str, run: AsyncIterator[Progressed]) -> None:
        """Show a run as a line in ``#runs`` until it ends. Raises what the run failed with."""
        line = Working(label)
        await self.query_one("#runs", Vertical).mount(line)
        try:
            async for progress in run:
                line.show(progress)
        finally:
            # Not awaited: on the way out of the app there is nobody left to take it away.
            line.remove()

    def keys(self) -> list[tuple[str, str]]:
        """The keys that work here and what they do: of the screen, of its tables, then those that work everywhere."""
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
        """What can be done on this screen, in the order of its declaration."""
        return Binding.make_bindings(type(self).BINDINGS)


Item = TypeVar("Item")
Method = TypeVar("Method", bound=Callable[..., Awaitable[None]])


@dataclass(frozen=True, slots=True)
class Action:
    """What a key does on a list. ``when`` says of which rows it can be done; ``None``: it needs none."""

    key: str
    label: str
    tooltip: str
    when: Callable[[Any], bool] | None
    footer: bool


def action(key: str, label: str, tooltip: str, *, footer: bool = True) -> Callable[[Method], Method]:
    """Declare a method of a `ListingScreen` as what ``key`` does. It runs as a worker; then the list is read again."""
    return _declare(Action(key, label, tooltip, None, footer))


def row_action(
    key: str,
    label: str,
    tooltip: str,
    *,
    when: Callable[[Any], bool] = lambda _row: True,
    footer: bool = True,
) -> Callable[[Method], Method]:
    """The same for a method that takes the chosen row; it is dimmed where ``when`` does not hold of it."""
    return _declare(Action(key, label, tooltip, when, footer))


def _declare(declared_action: Action) -> Callable[[Method], Method]:
    def mark(method: Method) -> Method:
        method.__dict__["declared"] = declared_action
        return method

    return mark


class ListingScreen(PageScreen, Generic[Item]):
    """A screen over one list of the daemon in one table, looked at again and again while the screen is open.

    A subclass declares its columns, what stands there while the list is empty, its actions, and the detail of a row.
    """

    COLUMNS: ClassVar[Sequence[TableColumn[Any]]]
    EMPTY: ClassVar[str]

    LOOK_INTERVAL_S: ClassVar[float] = 2.0
    """Seconds between two looks."""

    ACTIONS: ClassVar[Mapping[str, Action]] = {}
    CSS_PATH = "listing.tcss"

    def __init_subclass__(cls) -> None:
        actions = {
            name: found_action
            for name, value in vars(cls).items()
            if (found_action := _declared(value)) is not None
        }
        cls.ACTIONS = {**cls.ACTIONS, **actions}
        binding_types: list[BindingType] = [
            Binding(each.key, f"do('{name}')", each.label, tooltip=each.tooltip, show=each.footer)
            for name, each in cls.ACTIONS.items()
        ]
        cls.BINDINGS = [*binding_types, *vars(cls).get("BINDINGS", ())]
        super().__init_subclass__()

    def __init__(self, services: AppServices) -> None:
        super().__init__(services)
        self.items: dict[str, Item] = {}
        self.table = Table[Item](*self.COLUMNS, id="rows")
        self._possible: tuple[bool | None, ...] = ()

    @abstractmethod
    async def find(self) -> Sequence[Item]:
        """The list as it is now. Raises `DaemonError`."""

    def identify(self, item: Item) -> str:
        """The key of a row: its id, if it has one, or its name."""
        return str(getattr(item, "id", "") or item.name)  # type: ignore[attr-defined]

    def detail(self, item: Item) -> Iterable[Content | str]:
        """Lines about the chosen row; none: they take no room."""
        return ()

    def notes(self) -> Iterable[Content | str]:
        """Lines that stand below the detail, whichever row is chosen."""
        return ()

    def more(self) -> ComposeResult:
        """Further parts below the table."""
        yield from ()

    def chose(self) -> None:
        """Another row is chosen, or the list has changed."""

    def compose(self) -> ComposeResult:
        yield from self.top()
        with Vertical(id="body"):
            yield self.table
            yield Static(Content(self.EMPTY), id="empty", classes="empty")
        with VerticalScroll(id="about"):
            yield Static(id="detail")
        yield from self.more()
        yield Vertical(id="runs")
        yield KeyLine()

    @property
    def chosen(self) -> Item | None:
        """What the cursor stands on."""
        return self.table.chosen

    def on_mount(self) -> None:
        self.listen(self.seen)
        self.set_interval(self.LOOK_INTERVAL_S, self.look)
        self.draw()
        self.look()
        self.table.focus()

    def on_screen_resume(self) -> None:
        self.look()

    def seen(self, glance: Glance) -> None:
        """The daemon has been looked at."""

    @work(exclusive=True, group="look")
    async def look(self) -> None:
        """Have the list again, if this is the screen that is seen."""
        if not self.is_current:
            return
        try:
            items = await self.find()
        except DaemonError as error:
            self.failed(error)
            return
        if self.table.is_attached:  # else the app was left meanwhile
            self.put(items)

    def failed(self, error: DaemonError) -> None:
        """The list cannot be had: the key may not see it, or the daemon is away, which the banner says."""
        if not self.items and self.query("#empty"):
            self.query_one("#empty", Static).update(Content(one_line(error.message)))

    def put(self, found_items: Iterable[Item]) -> None:
        """Show these."""
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
        if possible != self._possible:  # only then: the footer is composed again by it
            self._possible = possible
            self.refresh_bindings()

    @on(Table.Selected, "#rows")
    def _selected(self) -> None:
        """Enter does what the first action on a row is declared with."""
        name = next((name for name, each in self.ACTIONS.items() if each.key.startswith("enter")), None)
        if name is not None:
            self.action_do(name)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What cannot be done to the chosen row is dimmed; letters are letters while a person writes."""
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
        """Do what is declared under a name."""
        declared_action = self.ACTIONS[name]
        method = getattr(self, name)
        item = self.chosen
        if declared_action.when is not None and (item is None or not declared_action.when(item)):
            return
        with self.reporting(declared_action.label):
            await (method() if declared_action.when is None else method(item))
        self.look()
        self.wake()


def _declared(value: object) -> Action | None:
    found_action = getattr(value, "__dict__", {}).get("declared")
    return found_action if isinstance(found_action, Action) else None


class SublistScreen(ListingScreen[Item]):
    """A list that belongs to a row of another one, opened over it. Esc leads back."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", tooltip="Back to the list before")
    ]

    def __init__(self, services: AppServices, heading: str) -> None:
        super().__init__(services)
        self._heading = heading

    def top(self) -> ComposeResult:
        yield from super().top()
        yield Static(Content(one_line(self._heading)), id="heading")

    def action_back(self) -> None:
        self.dismiss(None)
