"""Applies guards to the texts in all fields of a request or a response."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from portico.wire import AnswerClaim, Evidence, Passage
from portico_server.core.context import Context
from portico_server.core.request import (
    Message,
)
from portico_server.features.guards.call_guards import Guards
from portico_server.features.guards.guard import ContentBlocked, GuardPlace

CONTENT_FILTER: Final = "content_filter"
"""OpenAI's finish reason for blocked content."""


LEGACY_CALL: Final = "function_call"
"""OpenAI's deprecated field for a single function call."""


CALL_FIELDS: Final = frozenset(("tool_calls", LEGACY_CALL))


_UNREAD_OF_MESSAGE: Final = frozenset(("role", "tool_call_id")) | CALL_FIELDS


_UNREAD_OF_CALL: Final = frozenset(("id", "type", "index"))


async def guard_messages(
    messages: Iterable[Message], guards: Guards, context: Context
) -> list[Mapping[str, Any]]:
    """Return the messages of a chat as the guards let them pass.

    Texts of tools are guarded as results, all other texts as input, and the arguments of tool calls as arguments. The
    texts for each kind of place are searched together, in a thread if there are many.
    """
    guarded_messages: list[dict[str, Any]] = [dict(message) for message in messages]
    read: dict[GuardPlace, list[tuple[dict[str, Any], str]]] = {}
    for message in guarded_messages:
        place: GuardPlace = "tool_results" if message.get("role") in ("tool", "function") else "input"
        for name in message.keys() - _UNREAD_OF_MESSAGE:
            read.setdefault(place, []).append((message, name))
        for name in CALL_FIELDS & message.keys():
            message[name] = calls = _copied(message[name])
            for call in calls if isinstance(calls, list) else [calls]:
                if isinstance(call, dict):
                    fields = [(call, field) for field in call.keys() - _UNREAD_OF_CALL]
                    read.setdefault("tool_arguments", []).extend(fields)
    for place, fields in read.items():
        guarded_values = await guards.value([{name: holder[name]} for holder, name in fields], place, context)
        for (holder, name), new_fields in zip(fields, guarded_values, strict=True):
            del holder[name]
            holder |= new_fields
    return list(guarded_messages)


def _copied(calls: Any) -> Any:
    """Return a copy of tool calls whose fields can be changed without changing the original."""
    if isinstance(calls, list):
        return [_copied(call) for call in calls]
    return dict(calls) if isinstance(calls, dict) else calls


async def guard_fields(
    document: Mapping[str, Any], but: frozenset[str], place: GuardPlace, guards: Guards, context: Context
) -> dict[str, Any]:
    """Return the object with the guards applied to every field except those in ``but``."""
    read = {name: value for name, value in document.items() if name not in but}
    if not read:
        return dict(document)
    unguarded_fields = {name: value for name, value in document.items() if name in but}
    return {**unguarded_fields, **await guards.value(read, place, context)}


async def guard_passages(
    passages: Iterable[Passage], guards: Guards, context: Context
) -> tuple[Passage, ...]:
    """Return the retrieved passages as the guards let them pass. Blocked passages are left out."""
    passed_passages = []
    for passage in passages:
        try:
            (text,) = await guards.texts([passage.text], "tool_results", context)
        except ContentBlocked:
            continue
        passed_passages.append(passage if text == passage.text else replace(passage, text=text))
    return tuple(passed_passages)


async def guard_claims(
    claims: Iterable[AnswerClaim], guards: Guards, context: Context
) -> tuple[AnswerClaim, ...]:
    """Return the claims of an answer with the quotations that the guards let pass, as passages and as an answer.

    Evidence with a blocked quotation is left out.
    """
    return tuple(
        [
            replace(claim, evidence=tuple([evidence async for evidence in _guarded(claim, guards, context)]))
            for claim in claims
        ]
    )


async def _guarded(claim: AnswerClaim, guards: Guards, context: Context) -> AsyncIterator[Evidence]:
    for evidence in claim.evidence:
        try:
            texts = await guards.texts([evidence.quote], "tool_results", context)
            texts = await guards.texts(texts, "output", context)
        except ContentBlocked:
            continue
        yield evidence if texts == [evidence.quote] else replace(evidence, quote=texts[0])
