"""Token counts, read from an engine's answer without parsing all of it, or estimated if the answer has none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from portico.wire import Usage

CHARS_PER_TOKEN = 4
"""Characters per token for estimates."""

_PROMPTS = ("messages", "prompt", "input", "query", "documents", "tools")


def estimate_tokens(body: Mapping[str, Any]) -> int:
    """Return the approximate number of tokens in the texts of a request."""
    return 1 + sum(_size(body.get(name)) for name in _PROMPTS) // CHARS_PER_TOKEN


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_size(item) for item in value.values())
    if isinstance(value, list | tuple):
        return sum(_size(item) for item in value)
    return 0


# Inside a JSON string the quotes would be escaped, so the text of an answer can never match. A usage object
# contains only numbers and objects of numbers, without deeper nesting or text.
_USAGE_NAME = b'"usage"'
_USAGE = re.compile(rb'"usage"\s*:\s*(\{[^{}]*+(?:\{[^{}]*+\}[^{}]*+)*+\})')


def usage_from_json(value: Mapping[str, Any]) -> Usage:
    """Parse usage in OpenAI's format, including the newer fields of audio and images.

    Fields that are missing or not numbers count as 0.
    """
    details = value.get("prompt_tokens_details", value.get("input_tokens_details"))
    return Usage(
        _count(value.get("prompt_tokens", value.get("input_tokens"))),
        _count(value.get("completion_tokens", value.get("output_tokens"))),
        _count(details.get("cached_tokens")) if isinstance(details, Mapping) else 0,
    )


def usage_to_json(usage: Usage) -> dict[str, Any]:
    """Return usage in OpenAI's format."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def usage_in(data: bytes) -> Usage | None:
    """Return the last usage object in ``data`` (a JSON document or SSE frames), or ``None``."""
    at = data.rfind(_USAGE_NAME)  # usage is at the end, and an answer can be long
    while at >= 0:
        match = _USAGE.match(data, at)
        if match is not None:
            try:
                return usage_from_json(orjson.loads(match[1]))
            except orjson.JSONDecodeError:
                return None
        at = data.rfind(_USAGE_NAME, 0, at)
    return None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
