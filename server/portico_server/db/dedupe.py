"""Deduplication of long JSON values: each value is stored once, and references replace further copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, Final, TypeAlias

import orjson

MIN_PART_CHARS: Final = 200
"""Minimum length of a part that is replaced, in characters of JSON. A reference takes about fifty characters."""

MAX_DEPTH: Final = 6
"""Maximum depth of lists and objects that is searched, because each level is serialized again for the comparison."""

JsonPath: TypeAlias = "tuple[str | int, ...]"
"""The keys and indexes that lead to a part of a value; empty for the whole value."""

Reference: TypeAlias = Any
"""The place where a part is stored, as a JSON value whose meaning the caller defines."""

Places: TypeAlias = Mapping[bytes, Reference]
"""Maps the `digest` of a long value to the place where the value is stored."""


def digest(text: str | bytes) -> bytes:
    """Return the lookup key of a JSON text."""
    return blake2b(text.encode() if isinstance(text, str) else text, digest_size=16).digest()


def long_parts(value: Any) -> dict[bytes, JsonPath]:
    """Return the digests of the long parts of a stored value, each with the path of the part."""
    json_paths: dict[bytes, JsonPath] = {}
    _walk(value, (), lambda text, at: json_paths.setdefault(digest(text), at) is None)
    return json_paths


def replace_kept(value: Any, places: Places) -> tuple[Any, list[tuple[JsonPath, Reference]]]:
    """Return a value without the parts that are stored in ``places``, and the path and reference of each of these
    parts.

    The largest parts are replaced first. Raises `TypeError` if the value is not JSON.
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
    """Restore, in place, a value that `replace_kept` shortened. ``fetch`` returns the part for a reference."""
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
    """Return the part at a path in a value."""
    for key in at:
        value = value[key]
    return value


def _walk(value: Any, at: JsonPath, take: Callable[[bytes, JsonPath], bool]) -> Any:
    """Return the value with every part that ``take`` accepts replaced by null, or the same object if ``take`` accepts
    none.
    """
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
