"""Reads the fields of a Messages request, or raises `InvalidRequest` with their path. Pure.

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


def whole(given: Block, name: str, lowest: int) -> int | None:
    """A whole number, if one is given."""
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        wrong_type(name, "a whole number", value)
    if value < lowest:
        wrong(name, f"is {value}, but must be at least {lowest}")
    return value


def share(given: Block, name: str) -> float | None:
    """A number from 0 to 1, if one is given."""
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        wrong_type(name, "a number", value)
    if not 0 <= value <= 1:
        wrong(name, f"is {value}, but must be between 0 and 1")
    return value


def texts(given: Block, name: str) -> list[str]:
    """A list of strings that are not empty; an empty one if it is not given."""
    value = given.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        wrong_type(name, "a list of strings", value)
    for index, item in enumerate(value):
        if not isinstance(item, str):
            wrong_type(f"{name}[{index}]", "a string", item)
        if not item:
            wrong(f"{name}[{index}]", "must not be empty")
    return value


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


def one_of(value: Any, path: str, words: tuple[str, ...]) -> str:
    """One of ``words``."""
    if value is None:
        missing(path)
    if value not in words:
        not_one_of(path, value, words)
    found: str = value
    return found
