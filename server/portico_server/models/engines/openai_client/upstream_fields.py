"""The fields of answers as OpenAI-compatible servers send them, read into the form that OpenAI documents. Pure.

A field that is already in this form is returned unchanged, so that a caller can tell a regular answer by comparing it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import orjson

from portico_server.core.words import whole_number

BOM: Final = b"\xef\xbb\xbf"

MIN_LOGPROB_SCORE: Final = -9999.0
"""OpenAI's value for the logarithm of a very small probability; servers send NaN or minus infinity instead."""

MAX_EXACT_NUMBER: Final = 2**63
"""Limit of the integers that can be written as JSON; larger ones become floating-point numbers."""

FAILED_REASONS: Final = frozenset(
    {
        *("error", "failed", "abort", "aborted", "cancelled", "network_error", "malformed_function_call"),
        "insufficient_system_resource",
    }
)
"""Values of ``finish_reason`` with which servers report that an answer failed."""

_REASONS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("tool_calls", "tool_use", "tool_call"), "tool_calls"),
    "function_call": "function_call",
    **dict.fromkeys(
        ("length", "max_tokens", "max_output_tokens", "model_length", "max_length", "repetition"), "length"
    ),
    **dict.fromkeys(
        (
            *("content_filter", "safety", "recitation", "blocklist", "prohibited_content", "refusal", "spii"),
            *("sensitive", "image_safety"),
        ),
        "content_filter",
    ),
}

_THOUGHTS: Final = ("reasoning_content", "reasoning", "thinking", "thought", "thoughts")
"""Names of the field with the reasoning, OpenAI-compatible servers' most frequent one first."""

_THOUGHT_FIELDS: Final = frozenset((*_THOUGHTS, "reasoning_details"))

_TEXTS: Final = ("text", "content", "thinking", "reasoning", "summary")
"""Names of the field with the text of a part."""


def parse_json(data: bytes) -> tuple[Any, bool]:
    """Parse JSON, including what is only nearly JSON: NaN, control characters, half characters. Raise `ValueError`.

    Return the value, and whether ``data`` is JSON as it is. NaN and infinities become null, and half characters become
    U+FFFD, so that the value can be written as JSON.
    """
    try:
        return orjson.loads(data), True
    except orjson.JSONDecodeError:
        text = data.decode("utf-8", "replace")
    try:
        return _writable(json.loads(text, strict=False, parse_constant=lambda _name: None)), False
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error


def _writable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_writable(item) for item in value]
    if isinstance(value, dict):
        return {_writable(name): _writable(item) for name, item in value.items()}
    if isinstance(value, int) and abs(value) >= MAX_EXACT_NUMBER:
        return float(value) if abs(value) < 2**1000 else None
    return value


def list_of(value: Any) -> list[Any]:
    """Return a list of objects, for which some servers send only the object."""
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, dict) else []


def number_of(value: Any) -> int | None:
    """Return a whole number, which some servers send as a text or with fractions; otherwise ``None``."""
    if type(value) is int:
        return value if abs(value) < MAX_EXACT_NUMBER else None
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return whole_number(value.strip())
    return int(value) if isinstance(value, int | float) and abs(value) < MAX_EXACT_NUMBER else None


def text_of(value: Any) -> str:
    """Return the text of a part, or of parts within parts; empty for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(text_of, value))
    if isinstance(value, dict):
        return next((text for name in _TEXTS if (text := text_of(value.get(name)))), "")
    return ""


def message_fields(message: Any) -> dict[str, Any]:
    """Return a message or a delta whose ``content``, ``reasoning_content`` and ``refusal`` are texts or null.

    Content in parts becomes text, and parts with reasoning, refusals or calls become the fields that OpenAI has for
    them; parts of other types are left out. Reasoning under another name moves to ``reasoning_content``. The items of
    ``tool_calls`` are not read.
    """
    if isinstance(message, str):
        return {"content": message}
    if not isinstance(message, dict):
        return {}
    fields = dict(message)
    content = fields.get("content")
    if content is not None and type(content) is not str:
        _read_parts(content, fields)
    if not _THOUGHT_FIELDS.isdisjoint(fields):
        _move_thoughts(fields)
    if not isinstance(fields.get("refusal", ""), str | None):
        del fields["refusal"]
    return fields


def _read_parts(content: Any, fields: dict[str, Any]) -> None:
    """Replace the content of ``fields`` by its text, and add the fields for its other parts."""
    if not isinstance(content, list | dict):
        has_text = isinstance(content, int | float) and not isinstance(content, bool)
        fields["content"] = str(content) if has_text else None
        return
    texts, thoughts, refusals, calls = [], [], [], []
    for part in content if isinstance(content, list) else [content]:
        kind = part.get("type") if isinstance(part, dict) else "text"
        if kind in ("thinking", "reasoning", "reasoning_text", "thought"):
            thoughts.append(text_of(part))
        elif kind == "refusal":
            refusals.append(text_of(part.get("refusal")))
        elif kind in ("tool_use", "tool_call", "function"):
            calls.append(part)
        elif kind in ("text", "output_text", "input_text", "text_delta", None):
            texts.append(text_of(part))
    fields["content"] = "".join(texts)
    if thoughts and not fields.get("reasoning_content"):
        fields["reasoning_content"] = "".join(thoughts)
    if refusals and not fields.get("refusal"):
        fields["refusal"] = "".join(refusals)
    if calls:
        fields["tool_calls"] = [*list_of(fields.get("tool_calls")), *calls]


def _move_thoughts(fields: dict[str, Any]) -> None:
    value = fields.get("reasoning_content")
    if value and type(value) is str:
        return
    for name in _THOUGHTS:
        if name in fields and (text := text_of(fields[name])):
            del fields[name]
            fields["reasoning_content"] = text
            return
    if text := text_of(fields.get("reasoning_details")):
        fields["reasoning_content"] = text
        return
    for name in _THOUGHTS:
        if not isinstance(fields.get(name, ""), str | None):
            del fields[name]


def finish_reason(value: Any) -> str | None:
    """Return the reason in OpenAI's words, or ``None`` if the answer has not ended.

    A reason in ``FAILED_REASONS`` is returned unchanged. An unknown reason means ``stop``.
    """
    if value is None or value == "stop":
        return value  # type: ignore[no-any-return]
    if isinstance(value, dict):
        value = value.get("type") or value.get("reason")
    if not value:
        return None
    word = value.lower() if isinstance(value, str) else ""
    return word if word in FAILED_REASONS else _REASONS.get(word, "stop")


def usage_fields(value: Any) -> dict[str, Any] | None:
    """Return token counts whose values are whole numbers, with all three totals, or ``None`` if there are none."""
    if not isinstance(value, dict) or not value:
        return None
    counts = _counts(value)
    for name in ("prompt_tokens_details", "completion_tokens_details"):
        if not isinstance(counts.get(name), dict | None):
            del counts[name]
    totals = {
        name: number_of(next((count for key in names if (count := counts.get(key)) is not None), 0)) or 0
        for name, names in (
            ("prompt_tokens", ("prompt_tokens", "input_tokens")),
            ("completion_tokens", ("completion_tokens", "output_tokens")),
        )
    }
    total = number_of(counts.get("total_tokens")) or sum(totals.values())
    return {**counts, **totals, "total_tokens": total}


def _counts(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``value`` with whole numbers, at least 0, in each field that counts tokens and is not null."""
    counts = dict(value)
    for name, count in value.items():
        if isinstance(count, dict):
            counts[name] = _counts(count)
        elif name.endswith("_tokens") and count is not None:
            counts[name] = max(0, number_of(count) or 0)
    return counts


def token_logprobs(value: Any) -> dict[str, Any] | None:
    """Return the log-probabilities of a chat without the entries that cannot be read, or ``None`` if none can."""
    if not isinstance(value, dict):
        return None
    parts = {name: value[name] for name in ("content", "refusal") if isinstance(value.get(name), list)}
    if not parts:
        return None
    return {**value, **{name: _entries(entries) for name, entries in parts.items()}}


def _entries(entries: Any) -> list[dict[str, Any]]:
    readable: list[dict[str, Any]] = []
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or not isinstance(entry.get("token"), str) or "logprob" not in entry:
            continue
        logprob = entry["logprob"]
        is_number = isinstance(logprob, int | float) and not isinstance(logprob, bool)
        fields = {**entry, "logprob": logprob if is_number else MIN_LOGPROB_SCORE}
        if "top_logprobs" in entry:
            fields["top_logprobs"] = _entries(entry["top_logprobs"])
        if not isinstance(entry.get("bytes"), list | None):
            del fields["bytes"]
        readable.append(fields)
    return readable


def says_anything(fields: Mapping[str, Any]) -> bool:
    """Return whether a message, a delta or a choice of a completion has any content beside its role."""
    return any(value for name, value in fields.items() if name != "role")
