"""A dialog with the stored conversations: open, rename, copy and delete them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Label, Static

from portico_tui.conversations import title
from portico_tui.daemon import Conversations, DaemonError, Session
from portico_tui.text import clock
from portico_tui.widgets.cancels_workers import CancelsWorkers
from portico_tui.widgets.dialogs import Confirm, Field, Form
from portico_tui.widgets.table import Table
from portico_tui.widgets.table_rows import TableColumn

KEYS = "Enter: open · r: rename · f: copy · d: delete · /: search · Esc: close"


COLUMNS = (
    TableColumn[Session](
        "USED", lambda session: clock(session.updated_at), "dim", sort=lambda session: session.updated_at
    ),
    TableColumn[Session]("WITH", lambda session: session.app, "", 18),
    TableColumn[Session]("TITLE", title, "bold"),
)


class ConversationPicker(CancelsWorkers, ModalScreen[Session | None]):
    """A list of conversations, which can be searched by the text of their messages. The result is the conversation to
    continue.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close"),
        Binding("slash", "search", "Search"),
        Binding("down", "list", "Go to the list", show=False),
        Binding("r", "rename", "Rename"),
        Binding("f", "fork", "Copy"),
        Binding("d", "delete", "Delete"),
    ]

    def __init__(self, conversations: Conversations) -> None:
        super().__init__()
        self._conversations = conversations
        self._sessions: dict[str, Session] = {}

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide"):
            yield Label("Conversations", classes="title")
            yield Input(placeholder="press / to search messages", id="query", compact=True)
            yield Table[Session](*COLUMNS, id="sessions", is_filtered=False)
            yield Static(id="no-sessions", classes="empty")
            yield Static(KEYS, classes="keys")

    def on_mount(self) -> None:
        self.query_one(Table).focus()
        self._look()

    @on(Input.Changed, "#query")
    @work(exclusive=True, group="look")
    async def _look(self) -> None:
        search = self.query_one("#query", Input).value.strip()
        with self._reporting("Conversations"):
            sessions = await self._conversations.recent(search)
            self._put(sessions)
            empty_text = f"No conversation mentions '{search}'." if search else "No conversations yet."
            self.query_one("#no-sessions", Static).update(Content(empty_text))

    def _put(self, sessions: Sequence[Session]) -> None:
        self._sessions = {session.id: session for session in sessions}
        table = self.query_one(Table)
        table.put(self._sessions)
        table.display = bool(self._sessions)
        self.query_one("#no-sessions").display = not self._sessions

    @property
    def _chosen_session(self) -> Session | None:
        return self.query_one("#sessions", Table).chosen

    @contextmanager
    def _reporting(self, doing: str) -> Iterator[None]:
        try:
            yield
        except DaemonError as error:
            self.notify(error.message, title=doing, severity="error", timeout=10, markup=False)

    @on(Table.Selected)
    @on(Input.Submitted, "#query")
    def _open(self) -> None:
        if self._chosen_session is not None:
            self.dismiss(self._chosen_session)

    def action_leave(self) -> None:
        """Leave the search and show the whole list, or leave the list and return to the chat."""
        query = self.query_one("#query", Input)
        if query.value or query.has_focus:
            query.clear()
            self.query_one(Table).focus()
        else:
            self.dismiss(None)

    def action_search(self) -> None:
        self.query_one("#query", Input).focus()

    def action_list(self) -> None:
        self.query_one(Table).focus()

    @work(group="change")
    async def action_rename(self) -> None:
        session = self._chosen_session
        if session is None:
            return
        answers = await self.app.push_screen_wait(
            Form("Rename", Field("title", "Topic of the conversation", title(session)))
        )
        if answers is not None:
            with self._reporting("Rename"):
                await self._conversations.rename(session, answers["title"])
            self._look()

    @work(group="change")
    async def action_fork(self) -> None:
        if (session := self._chosen_session) is not None:
            with self._reporting("Copy"):
                await self._conversations.fork(session)
            self._look()

    @work(group="change")
    async def action_delete(self) -> None:
        session = self._chosen_session
        if session is None:
            return
        if await self.app.push_screen_wait(Confirm(f"Delete the conversation '{title(session)}'?", "Delete")):
            with self._reporting("Delete"):
                await self._conversations.remove(session)
            self._look()
