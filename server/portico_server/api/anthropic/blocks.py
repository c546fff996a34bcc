"""Content blocks of a Messages request. Pure.

``null`` means absent, as it does at Anthropic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from portico_server.core import json_values
from portico_server.core.invalid import missing, wrong_type

Block: TypeAlias = Mapping[str, Any]
"""An object of the request with a ``type``."""


def blocks(value: Any, path: str) -> list[Block]:
    """A list of blocks. A string stands for one block of text."""
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if value is None:
        missing(path)
    for index, item in enumerate(json_values.items(value, path, "a string or a list of content blocks")):
        if not isinstance(item, dict):
            wrong_type(f"{path}[{index}]", "an object with a 'type'", item)
        if not isinstance(item.get("type"), str):
            missing(f"{path}[{index}].type")
    blocks_given: list[Block] = value
    return blocks_given


def optional_mapping(block: Block, name: str, path: str) -> Block | None:
    """An object in a block, if it has one."""
    value = block.get(name)
    return None if value is None else json_values.mapping(value, f"{path}.{name}")


def optional_flag(block: Block, name: str, path: str) -> bool:
    """A boolean in a block; false if it has none."""
    value = block.get(name)
    return value is not None and json_values.flag(value, f"{path}.{name}")
