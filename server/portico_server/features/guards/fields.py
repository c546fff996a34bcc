"""Applies guards to the texts in all fields of a request or a response."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields as fields_of
from dataclasses import is_dataclass, replace
from itertools import groupby
from typing import Any, Final, TypeVar

from portico.wire import AnswerClaim, Evidence, Passage
from portico_server.core.request import (
    Message,
)
from portico_server.features.guards.call_guards import Guards, RecordsHits
from portico_server.features.guards.guard import ContentBlocked, GuardPlace

CONTENT_FILTER: Final = "content_filter"
"""OpenAI's finish reason for blocked content."""


LEGACY_CALL: Final = "function_call"
"""OpenAI's deprecated field for a single function call."""


CALL_FIELDS: Final = frozenset(("tool_calls", LEGACY_CALL))


_UNREAD_OF_MESSAGE: Final = frozenset(("role", "tool_call_id")) | CALL_FIELDS


_UNREAD_OF_CALL: Final = frozenset(("id", "type", "index"))


_UNREAD_OF_CONTENT: Final = frozenset(("id", "file_id", "filename", "store", "attributes", "kind"))


Content = TypeVar("Content")


async def guard_messages(
    messages: Iterable[Message], guards: Guards, context: RecordsHits
) -> list[Mapping[str, Any]]:
    """Return the messages of a chat as the guards let them pass.

    Texts of tools are guarded as results, all other texts as input, and the arguments of tool calls as arguments. The
    texts for each kind of place are searched together, in a thread if there are many.
    """
    guarded_messages: list[dict[str, Any]] = [dict(message) for message in messages]
    read: dict[GuardPlace, list[tuple[dict[str, Any], str]]] = {}
    for message in guarded_messages:
        place = _place_of(message)
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
    for place, adjacent_messages in groupby(guarded_messages, _place_of):
        for _role, same_role in groupby(adjacent_messages, lambda message: message.get("role")):
            await _guard_adjacent([*same_role], guards, place, context)
    return list(guarded_messages)


def _place_of(message: Message) -> GuardPlace:
    return "tool_results" if message.get("role") in ("tool", "function") else "input"


async def _guard_adjacent(
    messages: Sequence[dict[str, Any]], guards: Guards, place: GuardPlace, context: RecordsHits
) -> None:
    """Apply the guards to the joined texts of messages that follow each other in the same role."""
    texts = [text for message in messages for text in _texts_of(message)]
    if len(texts) < 2:
        return
    passed_texts = iter(await guards.adjacent(texts, place, context))
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            message["content"] = next(passed_texts)
        elif isinstance(content, list):
            message["content"] = [_with_text(part, passed_texts) for part in content]


def _texts_of(message: Message) -> list[str]:
    """Return the texts of a message's content, in order."""
    content = message.get("content")
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list) else ()
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    return [text for text in texts if isinstance(text, str)]


def _with_text(part: Any, texts: Iterator[str]) -> Any:
    """Return a part of a message with its next text, if it has a text."""
    if isinstance(part, str):
        return next(texts)
    has_text = isinstance(part, dict) and isinstance(part.get("text"), str)
    return {**part, "text": next(texts)} if has_text else part


def _copied(calls: Any) -> Any:
    """Return a copy of tool calls whose fields can be changed without changing the original."""
    if isinstance(calls, list):
        return [_copied(call) for call in calls]
    return dict(calls) if isinstance(calls, dict) else calls


async def guard_fields(
    document: Mapping[str, Any], but: frozenset[str], place: GuardPlace, guards: Guards, context: RecordsHits
) -> dict[str, Any]:
    """Return the object with the guards applied to every field except those in ``but``."""
    read = {name: value for name, value in document.items() if name not in but}
    if not read:
        return dict(document)
    unguarded_fields = {name: value for name, value in document.items() if name in but}
    return {**unguarded_fields, **await guards.value(read, place, context)}


async def guard_passages(
    passages: Iterable[Passage], guards: Guards, context: RecordsHits
) -> tuple[Passage, ...]:
    """Return the retrieved passages as the guards let them pass. Blocked passages are left out."""
    return await guard_content(tuple(passages), guards, context)


async def guard_content(content: Content, guards: Guards, context: RecordsHits) -> Content:
    """Return content of a store as the guards let it pass: dataclasses such as passages, sequences of them, or texts.

    A dataclass in a sequence is left out if one of its texts is blocked. Raises `ContentBlocked` for any other blocked
    text. Names of files, attributes and ids are not texts.
    """
    if not guards.at("tool_results"):
        return content
    passed_content: Content = await _guard_content(content, guards, context)
    return passed_content


async def _guard_content(content: Any, guards: Guards, context: RecordsHits) -> Any:
    if isinstance(content, str):
        (text,) = await guards.texts([content], "tool_results", context)
        return text
    if isinstance(content, list | tuple):
        if content and all(isinstance(element, str) for element in content):
            return type(content)(await guards.adjacent(content, "tool_results", context))
        passed_elements = []
        for element in content:
            try:
                passed_elements.append(await _guard_content(element, guards, context))
            except ContentBlocked:
                if not is_dataclass(element):
                    raise
        return type(content)(passed_elements)
    if not is_dataclass(content) or isinstance(content, type):
        return content
    changes: dict[str, Any] = {}
    for field in fields_of(content):
        if field.name in _UNREAD_OF_CONTENT:
            continue
        passage_field = getattr(content, field.name)
        passed_field = await _guard_content(passage_field, guards, context)
        if passed_field != passage_field:
            changes[field.name] = passed_field
    return replace(content, **changes) if changes else content


async def guard_claims(
    claims: Iterable[AnswerClaim], guards: Guards, context: RecordsHits
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


async def _guarded(claim: AnswerClaim, guards: Guards, context: RecordsHits) -> AsyncIterator[Evidence]:
    for evidence in claim.evidence:
        try:
            texts = await guards.texts([evidence.quote], "tool_results", context)
            texts = await guards.texts(texts, "output", context)
        except ContentBlocked:
            continue
        yield evidence if texts == [evidence.quote] else replace(evidence, quote=texts[0])
