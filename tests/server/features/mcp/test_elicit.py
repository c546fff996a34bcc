"""Approvals and questions of a run, as forms in clients that show forms."""

from __future__ import annotations

import asyncio
from typing import Any

import mcp_types as types
import pytest
from tests.mcp_service import Service
from tests.registry_fixture import ScriptedServable
from tests.server.features.mcp.conftest import Connect, Era

from portico.wire import Asked
from portico_server.core.context import Context
from portico_server.core.principal import LOCAL
from portico_server.core.question import NewQuestion
from portico_server.core.request import Request, ToolCall, ToolResult
from portico_server.core.servable import Card
from portico_server.features.mcp import elicit


@pytest.fixture
def daemon(service: Service) -> Service:
    async def remove(request: Request, context: Context) -> ToolResult:
        assert isinstance(request, ToolCall)
        answer = await context.ask(
            NewQuestion("approval", "remove", "Remove it for good?", arguments=request.arguments)
        )
        return ToolResult(f"{'Removed' if answer.accepted else 'Kept'} ({answer.note}).")

    async def order(_request: Request, context: Context) -> ToolResult:
        size = await context.ask(NewQuestion("input", "size", "How many?", answer_schema={"type": "integer"}))
        schema = {"type": "object", "properties": {"street": {"type": "string"}}, "required": ["street"]}
        place = await context.ask(NewQuestion("input", "place", "Where to?", answer_schema=schema))
        return ToolResult(f"{size.value} to {place.value['street']}")

    service.daemon.add(
        ScriptedServable(Card("remove", "tool"), remove), ScriptedServable(Card("order", "tool"), order)
    )
    return service


def answering(*results: types.ElicitResult) -> tuple[Any, list[types.ElicitRequestFormParams]]:
    """Return a client's form handler: it gives the answers in order and records the forms that it showed."""
    forms: list[types.ElicitRequestFormParams] = []
    remaining_results = list(results)

    async def show(_context: Any, params: Any) -> types.ElicitResult:
        forms.append(params)
        return remaining_results.pop(0)

    return show, forms


def text(result: Any) -> str:
    result_text: str = result.content[0].text
    return result_text


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (types.ElicitResult(action="accept", content={"note": "go"}), "Removed (go)."),
        (types.ElicitResult(action="accept"), "Removed ()."),
        (types.ElicitResult(action="decline"), "Kept ()."),
        (types.ElicitResult(action="cancel"), "Kept (The form was closed without an answer.)."),
    ],
)
async def test_an_approval_is_a_form(
    connect: Connect, daemon: Service, result: types.ElicitResult, said: str
) -> None:
    show, forms = answering(result)
    async with asyncio.timeout(60), connect(elicitation_callback=show) as client:
        assert text(await client.call_tool("remove", {"path": "a.txt"})) == said
    (form,) = forms
    assert form.message.startswith("Remove it for good?") and '"path": "a.txt"' in form.message
    assert list(form.requested_schema["properties"]) == ["note"]


async def test_questions_in_turn_are_forms_in_turn(connect: Connect, daemon: Service) -> None:
    show, forms = answering(
        types.ElicitResult(action="accept", content={"value": 3}),
        types.ElicitResult(action="accept", content={"street": "Elm Road"}),
    )
    async with asyncio.timeout(60), connect(elicitation_callback=show) as client:
        assert text(await client.call_tool("order")) == "3 to Elm Road"
    assert [form.message for form in forms] == ["How many?", "Where to?"]


async def test_without_forms_the_question_waits_for_somebody_else(connect: Connect, daemon: Service) -> None:
    async with asyncio.timeout(60), connect() as client:
        call = asyncio.create_task(client.call_tool("remove", {"path": "a.txt"}))
        async for question in daemon.daemon.questions.watch(LOCAL):
            await daemon.daemon.questions.answer(question.id, LOCAL, is_accepted=True, note="by hand")
            break
        assert text(await call) == "Removed (by hand)."


async def test_an_earlier_answer_from_elsewhere_wins_over_the_form(connect: Connect, daemon: Service) -> None:
    form_event = asyncio.Event()

    async def hesitate(_context: Any, _params: Any) -> types.ElicitResult:
        form_event.set()
        async for question in daemon.daemon.questions.watch(LOCAL):
            await daemon.daemon.questions.answer(question.id, LOCAL, is_accepted=False, note="no")
            break
        return types.ElicitResult(action="accept")

    async with asyncio.timeout(60), connect(elicitation_callback=hesitate) as client:
        answer = text(await client.call_tool("remove", {"path": "a.txt"}))
    assert form_event.is_set() and answer == "Kept (no)."


async def test_an_invalid_form_answer_ends_the_call_with_an_error(
    connect: Connect, daemon: Service, era: Era
) -> None:
    show, _shown = answering(types.ElicitResult(action="accept", content={"value": "many"}))
    async with asyncio.timeout(60), connect(elicitation_callback=show) as client:
        call = asyncio.create_task(client.call_tool("order"))
        if era == "legacy":  # the form is gone, so others get the question
            async for question in daemon.daemon.questions.watch(LOCAL):
                if question.status == "pending":
                    await daemon.daemon.runner.get(question.run_id).cancel()  # type: ignore[union-attr]
                    break
            assert "cancelled" in text(await call)
        else:
            assert "Invalid answer to 'size'" in text(await call)


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        (Asked("q", "function", "f"), None),
        (Asked("q", "input", "f"), ["value"]),
        (Asked("q", "input", "f", answer_schema={"type": "boolean"}), ["value"]),
        (Asked("q", "input", "f", answer_schema={"type": "array"}), None),
        (Asked("q", "input", "f", answer_schema={"type": "array", "items": {"enum": ["a"]}}), ["value"]),
        (Asked("q", "input", "f", answer_schema={"type": "object"}), None),
        (
            Asked(
                "q", "input", "f", answer_schema={"type": "object", "properties": {"a": {"type": "object"}}}
            ),
            None,
        ),
        (
            Asked(
                "q", "input", "f", answer_schema={"type": "object", "properties": {"a": {"type": "number"}}}
            ),
            ["a"],
        ),
    ],
)
def test_questions_with_unsupported_schemas_are_not_shown_as_forms(
    asked: Asked, fields: list[str] | None
) -> None:
    form = elicit.form(asked)
    if fields is None:
        assert form is None
    else:
        assert form is not None and isinstance(form.params, types.ElicitRequestFormParams)
        assert list(form.params.requested_schema["properties"]) == fields
