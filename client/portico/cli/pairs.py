"""Parses repeatable options of the form NAME=VALUE, and values that can be JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from portico.errors import InvalidRequest


def pairs(texts: Iterable[str] | None, option: str) -> dict[str, str]:
    """Parse NAME=VALUE texts and return the values, keyed by name. If a text has no ``=`` or no name, raise
    `InvalidRequest` that mentions ``option``.
    """
    values = {}
    for pair in texts or ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidRequest(f"{option} is '{pair}', but must be NAME=VALUE.", param=option.strip("-"))
        values[name] = value
    return values


def json_or_text(text: str) -> Any:
    """Parse a text as JSON. If it is not valid JSON, return the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
