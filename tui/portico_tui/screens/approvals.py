"""Approvals: the questions that runs ask people. A person can approve, refuse, or enter the requested value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from textual.content import Content

from portico_tui.daemon import Question
from portico_tui.screens.page import ListingScreen, row_action
from portico_tui.text import clock, one_line, safe
from portico_tui.widgets.dialogs import Form
from portico_tui.widgets.schema_form import fields_of, value_of
from portico_tui.widgets.table_rows import TableColumn


class ApprovalsScreen(ListingScreen[Question]):
    """The open questions that a person must answer."""

    MODE = "approvals"
    TAB = "Approvals"
    LOOK_INTERVAL_S = 1.0
    COLUMNS = (
        TableColumn[Question](
            "ASKED",
            lambda question: clock(question.created_at),
            "dim",
            sort=lambda question: question.created_at,
        ),
        TableColumn[Question]("KIND", lambda question: question.kind),
        TableColumn[Question]("NAME", lambda question: question.name, "bold", 24),
        TableColumn[Question](
            "WITH",
            lambda question: ", ".join(f"{name}={value}" for name, value in question.arguments.items()),
        ),
    )
    EMPTY = "No open questions."

    async def find(self) -> Sequence[Question]:
        return await self.daemon.questions()

    def detail(self, item: Question) -> Iterable[Content | str]:
        yield Content.styled(one_line(item.message or item.name), "bold")
        for value in (item.arguments, item.answer_schema):
            if value:
                yield safe(json.dumps(value, ensure_ascii=False, indent=2))
        yield Content.styled(f"{item.run} waits until {clock(item.expires_at)}", "dim")

    @row_action("a", "Approve", "Approve, or enter the requested value: the run continues")
    async def approve(self, question: Question) -> None:
        value: Any = None
        if question.kind == "input":
            form = Form(one_line(question.message or question.name), *fields_of(question.answer_schema))
            answers = await self.ask(form)
            if answers is None:
                return
            value = value_of(question.answer_schema, answers)
        await self.client.questions.answer(question.id, True, value=value)

    @row_action("r", "Refuse", "Refuse: the run continues without the action")
    async def refuse(self, question: Question) -> None:
        await self.client.questions.answer(question.id, False)
