"""Agents within agents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def found_in(kind: type[T], name: str, value: Any) -> Iterator[tuple[str, T]]:
    """What of a kind an attribute holds, by itself or in lists and objects, with its path."""
    if isinstance(value, kind):
        yield name, value
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from found_in(kind, f"{name}.{number}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from found_in(kind, f"{name}.{key}", item)
