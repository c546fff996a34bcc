"""Content blocks of a Messages request. Pure.

As in Anthropic's API, ``null`` means absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from portico_server.core import json_values
from portico_server.core.invalid import missing, wrong_type

Block: TypeAlias = Mapping[str, Any]
"""A request object that has a ``type``."""


def blocks(value: Any, path: str) -> list[Block]:
    """Return the content blocks of a value. A string becomes one text block."""
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if value is None:
        missing(path)
    listed_blocks: list[Block] = json_values.items(value, path, "a string or a list of content blocks")
    for index, item in enumerate(listed_blocks):
        if not isinstance(item, dict):
            wrong_type(f"{path}[{index}]", "an object with a 'type'", item)
        if not isinstance(item.get("type"), str):
            missing(f"{path}[{index}].type")
    return listed_blocks
