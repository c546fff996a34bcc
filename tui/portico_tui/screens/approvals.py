"""Approvals: what runs wait for; agree, refuse, or say what was asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import DataTable, Footer, Static

from portico_tui.daemon import Question
from portico_tui.screens.page import Listing
from portico_tui.text import cell, clock, one_line, safe
from portico_tui.widgets.dialogs import Field, Form
from portico_tui.widgets.table import Table

NEEDS_A_QUESTION = {"approve", "refuse"}


class Approvals(Listing[Question]):
    """The questions that a person answers."""

    LOOK_AGAIN = 1.0
    CSS_PATH = "approvals.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "approve", "Approve", tooltip="Agree, or say what was asked for: the run continues"),
        Binding("r", "refuse", "Refuse", tooltip="Refuse: the run continues without it"),
    ]

    def compose(self) -> ComposeResult:
        yield from self.top("approvals")
        with Vertical(id="body"):
            yield Table("ASKED", "KIND", "NAME", "WITH", id="questions")
            yield Static("Nothing waits for an answer.", id="no-questions", classes="empty")
        with VerticalScroll(id="question"):
            yield Static(id="detail")
        yield Footer(show_command_palette=False)

    async def find(self) -> Sequence[Question]:
        return await self.daemon.questions()

    def draw(self) -> None:
        table = self.query_one(Table)
        table.put(
            {
                question.id: (
                    cell(clock(question.created_at), "dim"),
                    cell(question.kind),
                    cell(question.name, "bold", 24),
                    cell(", ".join(f"{name}={value}" for name, value in question.arguments.items())),
                )
                for question in self.items.values()
            }
        )
        table.display = bool(self.items)
        self.query_one("#no-questions").display = not self.items
        self._describe()

    @on(DataTable.RowHighlighted)
    def _describe(self) -> None:
        question = self.chosen
        self.query_one("#question").display = question is not None
        if question is None:
            return
        lines = [Content.styled(one_line(question.message or question.name), "bold")]
        for value in (question.arguments, question.answer_schema):
            if value:
                lines.append(Content(safe(json.dumps(value, ensure_ascii=False, indent=2))))
        lines.append(Content.styled(f"{question.run} waits until {clock(question.expires_at)}", "dim"))
        self.query_one("#detail", Static).update(Content("\n").join(lines))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Answers are dimmed while nothing is asked."""
        return None if action in NEEDS_A_QUESTION and not self.items else True

    @work(group="answer")
    async def action_approve(self) -> None:
        question = self.chosen
        if question is None:
            return
        value: Any = None
        if question.kind == "input":
            given = await self.ask(
                Form(one_line(question.message or question.name), Field("value", "Answer"))
            )
            if given is None:
                return
            value = _read(given["value"])
        await self._answer(question, True, value)

    @work(group="answer")
    async def action_refuse(self) -> None:
        if (question := self.chosen) is not None:
            await self._answer(question, False)

    async def _answer(self, question: Question, accepted: bool, value: Any = None) -> None:
        with self.reporting(f"Answer to {question.name}"):
            await self.daemon.answer_question(question, accepted, value)
        self.look()


def _read(text: str) -> Any:
    """What is JSON as JSON, anything else as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
