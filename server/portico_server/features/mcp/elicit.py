"""Converts a run's question to a form that the client shows, and the form's result to an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import mcp_types as types
from mcp.server.context import ServerRequestContext

from portico.wire import Asked
from portico_server.core.dataclass import dataclass

_NOTE: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "note": {"type": "string", "title": "Note", "description": "What you would like to say about it."}
    },
}


_PLAIN: Final = frozenset({"string", "number", "integer", "boolean"})


@dataclass(frozen=True, slots=True)
class ElicitedAnswer:
    """A client's answer, in the form that `portico_server.runs.questions.QuestionService.answer` accepts."""

    accepted: bool
    value: Any = None
    note: str = ""


def can_elicit(context: ServerRequestContext[Any]) -> bool:
    """Return whether the client of this request can show forms."""
    capabilities = context.session.client_capabilities
    elicitation_capability = None if capabilities is None else capabilities.elicitation
    return elicitation_capability is not None and (
        elicitation_capability.form is not None or elicitation_capability.url is None
    )


def form(question: Asked) -> types.ElicitRequest | None:
    """Return the form for a question, or ``None`` if the question calls a client function or no form can represent its
    answer.
    """
    schema = _NOTE if question.kind == "approval" else _schema(question) if question.kind == "input" else None
    if schema is None:
        return None
    return types.ElicitRequest(
        params=types.ElicitRequestFormParams(message=_message(question), requested_schema=dict(schema))
    )


def elicited(question: Asked, result: types.ElicitResult) -> ElicitedAnswer:
    """Return the decision of the client's user. A form that was closed without an answer is a refusal."""
    content = result.content or {}
    if result.action != "accept":
        return ElicitedAnswer(
            False, note="" if result.action == "decline" else "The form was closed without an answer."
        )
    if question.kind == "approval":
        return ElicitedAnswer(True, note=str(content.get("note") or ""))
    is_wrapped = (question.answer_schema or {}).get("type") != "object"
    return ElicitedAnswer(True, content.get("value") if is_wrapped else content)


def _message(question: Asked) -> str:
    if question.kind != "approval":
        return question.message or f"'{question.name}' needs an answer."
    arguments = json.dumps(dict(question.arguments), ensure_ascii=False, indent=2, default=str)
    return (
        f"{question.message or f'May {question.name!r} be called?'}\n\n{question.name}: {arguments[:4_000]}"
    )


def _schema(question: Asked) -> Mapping[str, Any] | None:
    """Return the schema of a form. In the protocol, a form is an object of plain fields; a schema of one plain value
    becomes the field ``value``.
    """
    schema = question.answer_schema or {"type": "string"}
    if schema.get("type") == "object":
        fields = schema.get("properties") or {}
        plain = all(_is_field(item) for item in fields.values())
        object_schema = {key: schema[key] for key in ("type", "properties", "required") if key in schema}
        return object_schema if plain and fields else None
    if _is_field(schema):
        return {"type": "object", "properties": {"value": dict(schema)}, "required": ["value"]}
    return None


def _is_field(schema: Any) -> bool:
    """Return whether a form can have a field for this schema: one plain value, or several words from a list."""
    if not isinstance(schema, Mapping):
        return False
    items = schema.get("items")
    if schema.get("type") == "array" and isinstance(items, Mapping):
        return bool(items.get("enum") or items.get("anyOf"))
    return schema.get("type") in _PLAIN
