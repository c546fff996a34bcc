"""The approximate memory of the values that runs keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, Final

from portico.wire import Passage, field_names
from portico_server.core.request import Vectors

_OBJECT_BYTES: Final = 64
_PASSAGE_BYTES: Final = 1_024
_NUMBERS: Final = frozenset({int, float, bool})
_MAX_PARTS: Final = 20_000
"""Maximum number of values that are measured."""


def weigh(value: Any, limit: int) -> int:
    """Return the approximate bytes of a value; at least ``limit`` if it has too many values to measure."""
    if value is None:  # the results of relayed calls are always None
        return _OBJECT_BYTES
    weight, part_count = 0, 0
    stack = [value]
    while stack:
        part = stack.pop()
        part_count += 1
        weight += _OBJECT_BYTES
        if part is None or type(part) in _NUMBERS:
            continue
        match part:
            case str() | bytes():
                weight += len(part)
                continue
            case Passage():
                weight += _PASSAGE_BYTES + len(part.text)
                continue
            case Vectors():
                weight += sum(map(len, part.data))
                continue
            case Mapping():
                if len(part) > _MAX_PARTS:
                    return max(weight, limit)
                inner: list[Any] = [*part.keys(), *part.values()]
            case list() | tuple():
                if len(part) > _MAX_PARTS:
                    return max(weight, limit)
                inner = list(part)
            case _ if is_dataclass(type(part)):
                inner = [getattr(part, name) for name in field_names(part.__class__)]
            case _:
                continue
        if part_count + len(stack) + len(inner) > _MAX_PARTS:
            return max(weight, limit)
        stack += inner
    return weight
