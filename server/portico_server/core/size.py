"""How large a value is as JSON, worked out without writing it: what refers twice to one list has it twice as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from portico_server.core.errors import InvalidRequest

MAX_FILLED: Final = 16 * 2**20
"""Characters that one template may become."""

MAX_INDENTED: Final = 256 * 2**10
"""Bytes of JSON that are laid out for reading: a deep value becomes a hundred times as long by that."""

_NODE: Final = 8
"""Bytes that each list, object, number and name counts for."""


def size_of(value: Any, limit: int) -> int:
    """About the bytes of a value as JSON, up to the first that is over ``limit``: a walk is never longer than that."""
    size = 0
    stack = [value]
    while stack and size <= limit:
        found = stack.pop()
        if isinstance(found, str):
            size += _NODE + (len(found) if found.isascii() else 3 * len(found))
        elif isinstance(found, Mapping):
            size += _NODE * (1 + len(found))
            if size <= limit:
                stack += found.values()
                stack += found.keys()
        elif isinstance(found, list | tuple):
            size += _NODE * (1 + len(found))
            if size <= limit:
                stack += found
        elif isinstance(found, bytes):
            size += len(found)
        else:
            size += _NODE
    return size


def require_filled(pieces: Sequence[str], param: str | None = None) -> None:
    """Raise `InvalidRequest` if the pieces of a template make a text of more than `MAX_FILLED` characters."""
    if sum(map(len, pieces)) > MAX_FILLED:
        raise too_long(param)


def too_long(param: str | None = None) -> InvalidRequest:
    """What to say of a template that becomes too long."""
    return InvalidRequest(
        f"The template makes a text of more than {MAX_FILLED:,} characters.",
        code="value_too_large",
        param=param,
    )
