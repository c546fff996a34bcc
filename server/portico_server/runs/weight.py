"""The approximate memory of the values that runs keep."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import is_dataclass
from functools import cache
from operator import attrgetter
from typing import Any, Final

from portico.wire import Passage, Usage, field_names
from portico_server.core.request import Vectors

_OBJECT_BYTES: Final = 64
_USAGE_BYTES: Final = 256
_PASSAGE_BYTES: Final = 1_024
_PLAIN: Final = frozenset({int, float, bool, type(None)})
_MAX_PARTS: Final = 20_000
"""Maximum number of values that are measured."""


def weigh(value: Any, limit: int) -> int:
    """Return the approximate bytes of a value; at least ``limit`` if it has too many values to measure.

    Every call of a recorded run is weighed, so this compares types before it asks for their base classes.
    """
    weight, part_count = 0, 0
    groups: list[Collection[Any]] = [(value,)]
    while groups:
        parts = groups.pop()
        part_count += len(parts)
        if part_count > _MAX_PARTS:
            return max(weight, limit)
        for part in parts:
            kind = type(part)
            if kind is str or kind is bytes:
                weight += len(part)
            elif kind in _PLAIN:
                continue
            elif kind is list or kind is tuple:
                if part:
                    groups.append(part)
            elif kind is dict:
                if part:
                    groups += (part, part.values())
            elif kind is Usage:
                weight += _USAGE_BYTES
            elif kind is Passage:
                weight += _PASSAGE_BYTES + len(part.text)
            elif kind is Vectors:
                weight += sum(map(len, part.data))
            elif read_fields := _field_reader(part.__class__):
                groups.append(read_fields(part))
            elif isinstance(part, Mapping):
                groups += (part.keys(), part.values())
    return weight + _OBJECT_BYTES * part_count


@cache
def _field_reader(kind: type[Any]) -> Callable[[Any], Collection[Any]] | None:
    """Return a function that reads all fields of a dataclass, or ``None`` for other types."""
    names = field_names(kind) if is_dataclass(kind) else ()
    if len(names) > 1:
        return attrgetter(*names)
    return (lambda part: (getattr(part, names[0]),)) if names else None
