"""Where a value is in a configuration file, and the errors of files that cannot be edited. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Entry:
    """The item of a list whose ``name`` is this one."""

    name: str


Step: TypeAlias = str | Entry
Place: TypeAlias = tuple[Step, ...]
"""The keys, and entries of lists, that lead from the root of a file to a value."""

Settings: TypeAlias = Mapping[Place, Any]


class InvalidFile(Exception):
    """A file that is not valid in its format. The message names the line."""


class Unchangeable(Exception):
    """A valid file in which the value cannot be set without rewriting other parts."""


def nested(place: Place, value: Any) -> Any:
    """Return ``value`` inside the mappings and lists that ``place`` names."""
    for step in reversed(place):
        value = [value] if isinstance(step, Entry) else {step: value}
    return value


def value_at(document: Any, place: Place) -> Any:
    """Return the value at a place, or ``None`` if it does not exist."""
    for step in place:
        index = index_of(document, step)
        if index is None:
            return None
        document = document[index]
    return document


def with_value(document: Any, place: Place, value: Any) -> Any:
    """Return a copy of a document with another value at a place."""
    if not place:
        return value
    step, *inner = place
    if document is None:
        return nested(place, value)
    index = index_of(document, step)
    changed_value = (
        nested(tuple(inner), value) if index is None else with_value(document[index], (*inner,), value)
    )
    if isinstance(step, Entry):
        if not isinstance(document, list):
            raise Unchangeable(f"a list was expected that contains '{step.name}'")
        at = len(document) if index is None else index
        return [*document[:at], changed_value, *document[at + 1 :]]
    if not isinstance(document, dict):
        raise Unchangeable(f"an object was expected that contains '{step}'")
    return {**document, step: changed_value}


def index_of(document: Any, step: Step) -> Any:
    """Return the key or the index of a step in a mapping or a list, or ``None``."""
    if isinstance(step, str):
        return step if isinstance(document, dict) and step in document else None
    items = document if isinstance(document, list) else []
    return next(
        (n for n, item in enumerate(items) if isinstance(item, dict) and item.get("name") == step.name), None
    )
