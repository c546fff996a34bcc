"""Chat: a conversation with an app or a model, and the passages that the newest answer stands on."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Footer, Input, Select, Static
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
from portico_tui.widgets.passages import Passages
from portico_tui.widgets.prompt import Prompt
from portico_tui.widgets.transcript import Reply, Transcript


class Chat(Page):
    """One conversation. What failed or was stopped stays to be read but is not remembered as said."""

    CSS_PATH = "chat.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", tooltip="Stop the answer; else leave the line"),
        Binding("i", "write", "Write", tooltip="Write a question"),
        Binding("ctrl+t", "choose", "Talk to", tooltip="Choose the app or model to talk to"),
        Binding("ctrl+n", "forget", "New", tooltip="Begin a new conversation"),
        Binding("ctrl+y", "copy", "Copy", tooltip="Copy the newest answer"),
    ]

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self._partners: tuple[Partner, ...] = ()
        self._said: list[Message] = []
        self._answering: Worker[None] | None = None

    def compose(self) -> ComposeResult:
        yield from self.top("chat")
        yield Select[Partner]([], prompt="Nobody to talk to yet", id="partner", compact=True)
        with Horizontal(id="body"):
            with Transcript(id="talk"):
                yield Static(
                    "Ask about your documents, or talk to a model.\n\n"
                    "An app answers with the passages it stands on: Tab goes to them, Enter reads one.",
                    id="welcome",
                    classes="empty",
                )
            yield Passages(id="cited", scores=False)
        with Horizontal(id="prompt"):
            yield Static("›", classes="sign")
            yield Prompt(id="line")
        yield Footer()

    def on_mount(self) -> None:
        self.listen(self._show)
        self.query_one(Prompt).focus()

    def _show(self, glance: Glance) -> None:
        found = partners(glance)
        if found == self._partners:
            return
        chosen = self._partner
        self._partners = found
        select = self.query_one("#partner", Select)
        select.set_options([(_title(partner), partner) for partner in found])
        if chosen in found:
            select.value = chosen
        elif found:
            select.value = found[0]

    @property
    def _partner(self) -> Partner | None:
        value = self.query_one("#partner", Select).value
        return value if isinstance(value, Partner) else None

    @on(Select.Changed, "#partner")
    def _chosen(self) -> None:
        self.query_one(Prompt).focus()

    @on(Input.Submitted, "#line")
    def _asked(self) -> None:
        if self._answering is not None:
            self.notify("An answer is still coming: Esc stops it.", severity="warning")
            return
        partner = self._partner
        if partner is None:
            self.notify(
                "There is nobody to talk to yet: add a model (1, a) or a folder (2, a).", severity="warning"
            )
            return
        question = self.query_one(Prompt).take()
        if question:
            self._answering = self._answer(partner, question)
            self.refresh_bindings()

    @work(group="answer")
    async def _answer(self, partner: Partner, question: str) -> None:
        self.query_one("#welcome").display = False
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
        """`Write` is offered while another part has the focus."""
        return action != "write" or not isinstance(self.focused, Input)

    def action_stop(self) -> None:
        if self._answering is not None:
            self._answering.cancel()
        else:
            self.query_one(Transcript).focus()

    def action_write(self) -> None:
        self.query_one(Prompt).focus()

    def action_choose(self) -> None:
        select = self.query_one("#partner", Select)
        select.focus()
        select.action_show_overlay()

    @work(exclusive=True, group="forget")
    async def action_forget(self) -> None:
        if self._answering is not None:
            self._answering.cancel()
        self._said = []
        self._cite(())
        await self.query_one(Transcript).clear()
        self.query_one("#welcome").display = True
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
