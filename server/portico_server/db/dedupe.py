"""Long JSON is kept in one place: where it would be written again, a reference to that place stands instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, Final, TypeAlias

import orjson

MIN_PART_CHARS: Final = 200
"""Characters of JSON from which on a part is replaced: a reference takes about fifty."""

MAX_DEPTH: Final = 6
"""Levels of lists and objects that are searched: each is written as JSON once more to be compared."""

JsonPath: TypeAlias = "tuple[str | int, ...]"
"""Keys and indexes that lead to a part of a value; empty: the whole of it."""

Reference: TypeAlias = Any
"""Where a part is kept, as JSON; what it says is the caller's business."""

Places: TypeAlias = Mapping[bytes, Reference]
"""Where long values are kept, by their `digest`."""


def digest(text: str | bytes) -> bytes:
    """What stands for a JSON text when it is looked for."""
    return blake2b(text.encode() if isinstance(text, str) else text, digest_size=16).digest()


def long_parts(value: Any) -> dict[bytes, JsonPath]:
    """The long parts of a value that is kept, each with its place in it."""
    json_paths: dict[bytes, JsonPath] = {}
    _walk(value, (), lambda text, at: json_paths.setdefault(digest(text), at) is None)
    return json_paths


def replace_kept(value: Any, places: Places) -> tuple[Any, list[tuple[JsonPath, Reference]]]:
    """A value without those of its parts that are ``places`` elsewhere, and where each of them belongs.

    The largest parts are taken. Raises `TypeError` if the value is not JSON.
    """
    references: list[tuple[JsonPath, Reference]] = []

    def take(text: bytes, at: JsonPath) -> bool:
        place = places.get(digest(text))
        if place is None:
            return False
        references.append((at, place))
        return True

    return (_walk(value, (), take), references) if places else (value, references)


def restore_kept(
    value: Any, references: list[tuple[JsonPath, Reference]], fetch: Callable[[Reference], Any]
) -> Any:
    """The value that `replace_kept` made smaller; ``value`` is changed. ``fetch`` returns what a reference stands
    for.
    """
    for at, place in references:
        part = fetch(place)
        if not at:
            return part
        holder = value
        for key in at[:-1]:
            holder = holder[key]
        holder[at[-1]] = part
    return value


def part(value: Any, at: JsonPath) -> Any:
    """The part of a value at a place."""
    for key in at:
        value = value[key]
    return value


def _walk(value: Any, at: JsonPath, take: Callable[[bytes, JsonPath], bool]) -> Any:
    """The value with null for every part that ``take`` takes; the same object if it takes none."""
    if isinstance(value, str) and len(value) < MIN_PART_CHARS - 2 and value.isascii() and value.isprintable():
        return value
    if not isinstance(value, str | list | tuple | dict):
        return value
    text = orjson.dumps(value)
    if len(text) < MIN_PART_CHARS:
        return value
    if take(text, at):
        return None
    if isinstance(value, str) or len(at) >= MAX_DEPTH:
        return value
    if isinstance(value, dict):
        new_value = {name: _walk(item, (*at, name), take) for name, item in value.items()}
        return new_value if any(new_value[name] is not item for name, item in value.items()) else value
    items = [_walk(item, (*at, number), take) for number, item in enumerate(value)]
    return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
