"""Chat: conversations with apps, agents and models, and the passages on which the latest answer is based."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import ClassVar, Final

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Input, Static
from textual.worker import Worker

from portico_tui.conversations import title
from portico_tui.daemon import (
    App,
    Asked,
    Asking,
    ChatMessage,
    Cited,
    DaemonError,
    Delta,
    Glance,
    HandedOff,
    Partner,
    Passage,
    Progressed,
    Session,
    ToolCalled,
    partners,
)
from portico_tui.screens.page import LOADING, AppServices, PageScreen
from portico_tui.text import one_line, shorten
from portico_tui.widgets.conversation_picker import ConversationPicker
from portico_tui.widgets.dialogs import Choose
from portico_tui.widgets.key_line import KeyLine
from portico_tui.widgets.passages import Passages
from portico_tui.widgets.prompt_line import PromptLine
from portico_tui.widgets.transcript import ReplyView, TranscriptView

NOBODY = "Nobody to talk to yet: add a model (Esc, 1, a) or a folder (Esc, 2, a)."

WELCOME = (
    "Ask about your documents, or chat with a model.\n\nAn app answers with the passages it is based on: "
    "press Tab to reach them, Enter to read one. Conversations are saved: Ctrl+O continues one."
)


MAX_NOTE_CHARS: Final = 200
"""Maximum length of the line about a tool call, in characters."""

KINDS: Final = {"store": "answers from documents", "flow": "app"}
"""Labels for kinds of conversation partners; other kinds are their own labels."""


class ChatScreen(PageScreen):
    """A conversation, stored as a session. Turns that failed or were stopped remain visible but are not stored."""

    MODE = "chat"
    TAB = "Chat"
    CSS_PATH = "chat.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", tooltip="Stop the current answer"),
        Binding("escape", "leave", "Leave", tooltip="Leave the input line, so that digits, ? and q work"),
        Binding("i", "write", "Write", tooltip="Write a question"),
        Binding("pageup", "page(-1)", show=False, tooltip="Scroll up"),
        Binding("pagedown", "page(1)", show=False, tooltip="Scroll down"),
        Binding("ctrl+t", "choose", "Talk to", tooltip="Choose the app or model to talk to"),
        Binding(
            "ctrl+o",
            "conversations",
            "Conversations",
            tooltip="Continue, rename, copy or delete a conversation",
        ),
        Binding("ctrl+n", "forget", "New", tooltip="Start a new conversation"),
        Binding("ctrl+y", "copy", "Copy", tooltip="Copy the newest answer"),
    ]

    def __init__(self, services: AppServices) -> None:
        super().__init__(services)
        self._glance: Glance | None = None
        self._partners: tuple[Partner, ...] = ()
        self._apps: tuple[str, ...] = ()
        self._known: dict[str, App] = {}
        self._models: frozenset[str] = frozenset()
        self._partner: Partner | None = None
        self._session: Session | None = None
        self._history: list[ChatMessage] = []
        self._answering: Worker[None] | None = None

    def compose(self) -> ComposeResult:
        yield from self.top()
        yield Static(LOADING, id="partner")
        with Horizontal(id="body"):
            yield TranscriptView(WELCOME, id="talk")
            yield Passages(id="cited", quote=120)
        yield Static(id="hint")
        with Horizontal(id="prompt"):
            yield Static("›", classes="sign")
            yield PromptLine(id="line")
        yield KeyLine()

    def on_mount(self) -> None:
        self.listen(self._show)
        self.query_one(PromptLine).focus()

    def _show(self, glance: Glance) -> None:
        self._glance = glance
        app_names = (*glance.apps, glance.names)
        if app_names != self._apps:
            self._apps = app_names
            self._tell_apart()
        else:
            self._list()

    def _list(self) -> None:
        """Update the list of conversation partners. If the current partner is not in the list, choose the first one."""
        if self._glance is None or not self.query("#partner"):
            return  # the app was closed in the meantime
        self._partners = partners(self._glance, self._known, self._models)
        if self._partner not in self._partners:
            self._talk_to(self._partners[0] if self._partners else None)
        self._head()
        self._put_hint()

    @work(exclusive=True, group="kinds")
    async def _tell_apart(self) -> None:
        try:
            self._known = await self.daemon.conversations.apps()
        except DaemonError:
            self._apps = ()  # retried at the next poll; the banner reports that the daemon is unreachable
        self._list()

    def _title(self, partner: Partner) -> str:
        app = self._known.get(partner.name) if partner.app else None
        kind = app.kind if app is not None else "model"
        return f"{one_line(partner.name)} · {KINDS.get(kind, kind)}"

    def _talk_to(self, partner: Partner | None) -> None:
        """Switch to another partner. The partner continues the conversation in a new session."""
        if partner != self._partner:
            self._session = None
        self._partner = partner
        self._head()
        self._put_hint()

    def _put_hint(self) -> None:
        """Show a hint if the partner answers with the tiny model, otherwise hide it."""
        partner, glance = self._partner, self._glance
        hint = glance.hint_for(partner.name) if partner is not None and glance is not None else None
        line = self.query_one("#hint", Static)
        line.update(Content(one_line(hint or "")))
        line.display = bool(hint)

    def _head(self) -> None:
        line = f"Talking to {self._title(self._partner)}" if self._partner else "Nobody to talk to yet"
        about = f" · {one_line(title(self._session))}" if self._session else ""
        self.query_one("#partner", Static).update(Content(line + about))

    @on(Input.Submitted, "#line")
    def _question_submitted(self) -> None:
        if self._answering is not None:
            self.notify("An answer is still being written: press Esc to stop it.", severity="warning")
            return
        partner = self._partner
        if partner is None:
            self.notify(LOADING if self._glance is None else NOBODY, severity="warning")
            return
        question = self.query_one(PromptLine).take()
        if question:
            self._answering = self._answer(partner, question)
            self.refresh_bindings()

    @work(group="answer")
    async def _answer(self, partner: Partner, question: str) -> None:
        self._cite(())
        reply = await self.query_one(TranscriptView).turn(question)
        asking = self.daemon.conversations.ask(partner, self._session, tuple(self._history), question)
        try:
            await self._listen_to(asking, reply)
            self._history += asking.messages
            with self.reporting("Conversation"):
                session = await asking.keep()
                if (
                    partner == self._partner
                ):  # if the partner has changed, the new partner continues the conversation
                    self._session = session
                    self._head()
            tokens, speaker = asking.usage.completion_tokens, one_line(asking.speaker)
            reply.note(f"{speaker} · {tokens} tokens" if tokens else speaker)
        except DaemonError as error:
            reply.note(one_line(error.message), error=True)
            self.wake()
        except asyncio.CancelledError:
            reply.note("Stopped.")
            raise
        finally:
            self._answering = None
            self.refresh_bindings()
            await reply.end()

    async def _listen_to(self, asking: Asking, reply: ReplyView) -> None:
        async with aclosing(asking.events()) as events:
            async for event in events:
                match event:
                    case Delta(text=text):
                        await reply.write(text)
                    case Cited():
                        self._cite(event.passages)
                    case Progressed():
                        reply.progress(event)
                    case ToolCalled(name=name, arguments=arguments):
                        reply.note(shorten(f"calls {name} {arguments} …", MAX_NOTE_CHARS))
                    case HandedOff(to=to):
                        reply.note(f"hands over to {one_line(to)} …")
                    case Asked(kind="approval" | "input") as question:
                        reply.note(
                            f"waits for your answer under Approvals (Esc, 4): {one_line(question.message)}"
                        )
                        if self.is_current:
                            self.answer_question(question)

    def _cite(self, passages: tuple[Passage, ...]) -> None:
        self.query_one(Passages).put(passages)
        self.set_class(bool(passages), "-cited")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Let Esc stop an answer in progress, or else leave the input line. Offer the key for writing only outside the
        line.
        """
        writing = isinstance(self.focused, Input)
        match action:
            case "stop":
                return self._answering is not None
            case "leave":
                return writing
            case "write":
                return not writing
        return True

    def action_stop(self) -> None:
        if self._answering is not None:
            self._answering.cancel()

    def action_leave(self) -> None:
        self.query_one(TranscriptView).focus()

    def action_page(self, step: int) -> None:
        transcript = self.query_one(TranscriptView)
        if step < 0:
            transcript.scroll_page_up()
        else:
            transcript.scroll_page_down()

    def action_write(self) -> None:
        self.query_one(PromptLine).focus()

    @work(exclusive=True, group="choose")
    async def action_choose(self) -> None:
        with self.reporting("Talk to"):
            self._models = await self.daemon.chat_models()
        self._list()
        known_partners = self._partners
        if not known_partners:
            self.notify(NOBODY, severity="warning")
            return
        place = known_partners.index(self._partner) if self._partner in known_partners else None
        choice = await self.app.push_screen_wait(
            Choose("Talk to", [self._title(partner) for partner in known_partners], place)
        )
        if choice is not None:
            self._talk_to(known_partners[choice])
            self.query_one(PromptLine).focus()

    @work(exclusive=True, group="forget")
    async def action_forget(self) -> None:
        await self._begin(None, [])

    async def _begin(self, session: Session | None, messages: list[ChatMessage]) -> None:
        """Continue an existing conversation, or start a new one."""
        if self._answering is not None:
            self._answering.cancel()
        self._session, self._history = session, messages
        self._head()
        self._cite(messages[-1].passages if messages else ())
        await self.query_one(TranscriptView).fill(messages)
        prompt = self.query_one(PromptLine)
        prompt.recall([item.content for item in messages if item.role == "user"])
        prompt.focus()

    @work(exclusive=True, group="choose")
    async def action_conversations(self) -> None:
        conversations = self.daemon.conversations
        session = await self.app.push_screen_wait(ConversationPicker(conversations))
        with self.reporting("Conversation"):
            if session is not None:
                await self._take(session, await conversations.messages(session))
            elif self._session is not None:  # the session may have been renamed or deleted
                now = await conversations.look(self._session)
                if now is None:
                    await self._begin(None, [])
                else:
                    self._session = now
                    self._head()

    async def _take(self, session: Session, messages: list[ChatMessage]) -> None:
        partner = next(
            (chat_partner for chat_partner in self._partners if chat_partner.name == session.app), None
        )
        if partner is None:
            self.notify(
                f"'{one_line(session.app)}' is not available: another app continues.",
                severity="warning",
                markup=False,
            )
        else:
            self._talk_to(partner)
        await self._begin(session if partner else None, messages)

    def action_copy(self) -> None:
        text = self.query_one(TranscriptView).last
        if not text:
            self.notify("No answer to copy yet.", severity="warning")
            return
        self.app.copy_to_clipboard(text)
        self.notify("Answer copied.")
