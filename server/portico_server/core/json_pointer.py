"""JSON pointers (RFC 6901) as references write them in the fragment of a URI, such as ``#/$defs/Query``. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from portico_server.core.words import whole_number


def pointer_keys(reference: str) -> list[str]:
    """Return the names and numbers on the way from the root to a reference's target. ``#`` is the root itself."""
    return [part.replace("~1", "/").replace("~0", "~") for part in unquote(reference).split("/")[1:]]


def follow(root: Any, keys: Iterable[str]) -> Any:
    """Return the value inside ``root`` that ``keys`` lead to. Raise `KeyError` with the first key that is missing."""
    value = root
    for key in keys:
        number = whole_number(key)
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list | tuple) and number is not None and number < len(value):
            value = value[number]
        else:
            raise KeyError(key)
    return value
