"""Tokens, read from an engine's answer without parsing all of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from portico.wire import Usage

# Inside a JSON string the quotes would be escaped, so this cannot be matched by anything a model wrote.
_USAGE = re.compile(rb'"usage"\s*:\s*\{')


def usage_from_json(value: Mapping[str, Any]) -> Usage:
    """Usage in OpenAI's words; what is missing or not a number counts as 0."""
    details = value.get("prompt_tokens_details")
    return Usage(
        _count(value.get("prompt_tokens")),
        _count(value.get("completion_tokens")),
        _count(details.get("cached_tokens")) if isinstance(details, Mapping) else 0,
    )


def usage_to_json(usage: Usage) -> dict[str, Any]:
    """Usage in OpenAI's words."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def usage_in(data: bytes) -> Usage | None:
    """The last usage object in ``data`` (a JSON document or SSE frames), or ``None``."""
    found = None
    for match in _USAGE.finditer(data):
        found = match
    if found is None:
        return None
    start = found.end() - 1
    end = _closing_brace(data, start)
    if end is None:
        return None
    try:
        return usage_from_json(orjson.loads(data[start:end]))
    except orjson.JSONDecodeError:
        return None


def _closing_brace(data: bytes, start: int) -> int | None:
    """The index after the brace that closes the one at ``start``.

    Usage objects hold numbers, no braces in strings.
    """
    depth = 0
    for index in range(start, len(data)):
        if data[index] == 0x7B:
            depth += 1
        elif data[index] == 0x7D:
            depth -= 1
            if depth == 0:
                return index + 1
    return None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
