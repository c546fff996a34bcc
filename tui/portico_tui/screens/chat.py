"""Chat: a conversation with an app or a model, and the passages that the newest answer stands on."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Footer, Input, Static
from textual.worker import Worker

from portico_tui.daemon import (
    Cited,
    DaemonError,
    Delta,
    Glance,
    Message,
    Partner,
    Passage,
    Progress,
    partners,
)
from portico_tui.screens.page import House, Page
from portico_tui.text import one_line
from portico_tui.widgets.dialogs import Choose
from portico_tui.widgets.passages import Passages
from portico_tui.widgets.prompt import Prompt
from portico_tui.widgets.transcript import Reply, Transcript

NOBODY = "There is nobody to talk to yet: add a model (Esc, 1, a) or a folder (Esc, 2, a)."

WELCOME = (
    "Ask about your documents, or talk to a model.\n\n"
    "An app answers with the passages it stands on: Tab goes to them, Enter reads one."
)


class Chat(Page):
    """One conversation. What failed or was stopped stays to be read but is not remembered as said."""

    CSS_PATH = "chat.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", tooltip="Stop the answer that is coming"),
        Binding("escape", "leave", "Leave", tooltip="Leave the line, so that 1, 2, 3, ? and q work"),
        Binding("i", "write", "Write", tooltip="Write a question"),
        Binding("pageup", "page(-1)", show=False, tooltip="Scroll up"),
        Binding("pagedown", "page(1)", show=False, tooltip="Scroll down"),
        Binding("ctrl+t", "choose", "Talk to", tooltip="Choose the app or model to talk to"),
        Binding("ctrl+n", "forget", "New", tooltip="Begin a new conversation"),
        Binding("ctrl+y", "copy", "Copy", tooltip="Copy the newest answer"),
    ]

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self._partners: tuple[Partner, ...] = ()
        self._partner: Partner | None = None
        self._said: list[Message] = []
        self._answering: Worker[None] | None = None

    def compose(self) -> ComposeResult:
        yield from self.top("chat")
        yield Static(id="partner")
        with Horizontal(id="body"):
            yield Transcript(WELCOME, id="talk")
            yield Passages(id="cited", quote=120)
        with Horizontal(id="prompt"):
            yield Static("›", classes="sign")
            yield Prompt(id="line")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.listen(self._show)
        self.query_one(Prompt).focus()

    def _show(self, glance: Glance) -> None:
        self._partners = partners(glance)
        if self._partner not in self._partners:
            self._talk_to(self._partners[0] if self._partners else None)

    def _talk_to(self, partner: Partner | None) -> None:
        self._partner = partner
        line = f"Talking to {_title(partner)}" if partner else "Nobody to talk to yet"
        self.query_one("#partner", Static).update(Content(line))

    @on(Input.Submitted, "#line")
    def _asked(self) -> None:
        if self._answering is not None:
            self.notify("An answer is still coming: Esc stops it.", severity="warning")
            return
        partner = self._partner
        if partner is None:
            self.notify(NOBODY, severity="warning")
            return
        question = self.query_one(Prompt).take()
        if question:
            self._answering = self._answer(partner, question)
            self.refresh_bindings()

    @work(group="answer")
    async def _answer(self, partner: Partner, question: str) -> None:
        self._cite(())
        reply = await self.query_one(Transcript).turn(question)
        asked: list[Message] = [*self._said, {"role": "user", "content": question}]
        try:
            await self._listen_to(partner, asked, reply)
            self._said = [*asked, {"role": "assistant", "content": reply.text}]
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

    async def _listen_to(self, partner: Partner, asked: list[Message], reply: Reply) -> None:
        async with self.daemon.answer(partner, asked) as answer:
            async for event in answer.events():
                match event:
                    case Delta(text=text):
                        await reply.write(text)
                    case Cited():
                        self._cite(event.passages)
                    case Progress():
                        reply.progress(event)
            tokens = answer.usage.completion_tokens
            reply.note(f"{one_line(partner.name)} · {tokens} tokens" if tokens else one_line(partner.name))

    def _cite(self, passages: tuple[Passage, ...]) -> None:
        self.query_one(Passages).put(passages)
        self.set_class(bool(passages), "-cited")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc stops an answer that is coming, else leaves the line; writing is offered where one does not."""
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
        self.query_one(Transcript).focus()

    def action_page(self, step: int) -> None:
        transcript = self.query_one(Transcript)
        if step < 0:
            transcript.scroll_page_up()
        else:
            transcript.scroll_page_down()

    def action_write(self) -> None:
        self.query_one(Prompt).focus()

    @work(exclusive=True, group="choose")
    async def action_choose(self) -> None:
        known = self._partners
        if not known:
            self.notify(NOBODY, severity="warning")
            return
        place = known.index(self._partner) if self._partner in known else None
        picked = await self.app.push_screen_wait(Choose("Talk to", [_title(each) for each in known], place))
        if picked is not None:
            self._talk_to(known[picked])
            self.query_one(Prompt).focus()

    @work(exclusive=True, group="forget")
    async def action_forget(self) -> None:
        if self._answering is not None:
            self._answering.cancel()
        self._said = []
        self._cite(())
        await self.query_one(Transcript).clear()
        self.query_one(Prompt).focus()

    def action_copy(self) -> None:
        text = self.query_one(Transcript).last
        if not text:
            self.notify("There is no answer to copy yet.", severity="warning")
            return
        self.app.copy_to_clipboard(text)
        self.notify("The answer is copied.")


def _title(partner: Partner) -> str:
    return f"{one_line(partner.name)} · {'answers from documents' if partner.app else 'model'}"
