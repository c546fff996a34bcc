"""Reads objects within a Messages request, or raises `InvalidRequest` with their path. Pure.

``null`` means absent, as it does at Anthropic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type

Block: TypeAlias = Mapping[str, Any]
"""An object of the request with a ``type``."""


def text(given: Block, name: str, path: str, *, empty: bool = True) -> str:
    """A string that must be there."""
    value = given.get(name)
    at = f"{path}.{name}" if path else name
    if value is None:
        missing(at)
    if not isinstance(value, str):
        wrong_type(at, "a string", value)
    if not value and not empty:
        wrong(at, "must not be empty")
    return value


def mapping(given: Block, name: str, path: str = "") -> Block | None:
    """An object, if one is given."""
    value = given.get(name)
    if value is not None and not isinstance(value, dict):
        wrong_type(f"{path}.{name}" if path else name, "an object", value)
    return value


def flag(given: Block, name: str, path: str = "") -> bool:
    """A boolean; false if it is not given."""
    value = given.get(name)
    if value is not None and not isinstance(value, bool):
        wrong_type(f"{path}.{name}" if path else name, "a boolean", value)
    return value is True


def blocks(value: Any, path: str) -> list[Block]:
    """A list of blocks. A string stands for one block of text."""
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if value is None:
        missing(path)
    if not isinstance(value, list):
        wrong_type(path, "a string or a list of content blocks", value)
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            wrong_type(f"{path}[{index}]", "an object with a 'type'", item)
        if not isinstance(item.get("type"), str):
            missing(f"{path}[{index}].type")
    return value


def one_of(value: Any, path: str, allowed: tuple[str, ...]) -> str:
    """One of ``words``."""
    if value is None:
        missing(path)
    if value not in allowed:
        not_one_of(path, value, allowed)
    found: str = value
    return found
