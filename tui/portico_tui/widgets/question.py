"""A question of a run, asked in a dialog."""

from __future__ import annotations

import json
from typing import Any

from textual.app import App

from portico.client import AsyncClient
from portico.wire import Asked
from portico_tui.text import one_line, safe
from portico_tui.widgets.dialogs import Confirm, Form
from portico_tui.widgets.schema_form import fields_of, value_of


async def ask_person(app: App[Any], client: AsyncClient, question: Asked) -> None:
    """Ask the person to approve, to refuse, or to enter the requested value, and send the answer. Call only from a
    worker.

    Raises `Conflict` if another person has answered elsewhere.
    """
    value: Any = None
    if question.kind == "input":
        form = Form(one_line(question.message or question.name), *fields_of(question.answer_schema))
        answers = await app.push_screen_wait(form)
        is_accepted = answers is not None
        value = value_of(question.answer_schema, answers) if answers is not None else None
    else:
        arguments = json.dumps(question.arguments, ensure_ascii=False, indent=2)
        asks = f"{question.message or question.name}\n\n{arguments}"
        is_accepted = await app.push_screen_wait(Confirm(safe(asks), "Approve"))
    await client.questions.answer(question.id, is_accepted, value=value)
