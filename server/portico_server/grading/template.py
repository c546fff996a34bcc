"""Places in a text that an item or an answer fills: ``{{item.question}}``, ``{{sample.output_json.n}}``. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from portico_server.core.template import substitute

PLACE: Final = re.compile(r"\{\{\s*(item|sample)((?:\.[A-Za-z_][A-Za-z0-9_]*)+)\s*\}\}")

FIELD: Final = re.compile(r"\{\{\s*item\.([A-Za-z_][A-Za-z0-9_]*)")
"""A field of a line that is asked for: ``{{item.answer}}``."""


def fill(template: str, sources: Mapping[str, Any]) -> str:
    """``{{item.name}}`` and ``{{sample.output_text}}`` replaced; what is not there is empty.

    Raises `InvalidRequest` if that is too long, before it is made.
    """

    def value(match: re.Match[str]) -> str:
        found: Any = sources.get(match[1])
        for name in match[2][1:].split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
        if found is None:
            return ""
        return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)

    return substitute(PLACE, value, template)


def filled(content: Any, sources: Mapping[str, Any]) -> Any:
    """The content of a message with its places filled: a text, one part of it, or a list of them.

    Parts that are text become one text; with a picture among them they stay parts, as chat models take them.
    """
    if isinstance(content, str):
        return fill(content, sources)
    if isinstance(content, Mapping):
        return filled([content], sources)
    if not isinstance(content, list):
        return content
    parts = [_part(part, sources) for part in content]
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _part(part: Any, sources: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": fill(part, sources)}
    given = part if isinstance(part, Mapping) else {}
    if given.get("type") in ("input_image", "image_url"):
        address = given.get("image_url")
        url = address.get("url") if isinstance(address, Mapping) else address
        return {"type": "image_url", "image_url": {"url": fill(str(url or ""), sources)}}
    return {"type": "text", "text": fill(str(given.get("text") or ""), sources)}


def fields(given: Any) -> frozenset[str]:
    """The fields of an item that something with templates in it asks for; Python's source is not a template."""
    return frozenset(_fields(given))


def _fields(given: Any) -> Iterator[str]:
    if isinstance(given, str):
        yield from FIELD.findall(given)
    elif isinstance(given, Mapping):
        for name, value in given.items():
            if name != "source":
                yield from _fields(value)
    elif isinstance(given, list | tuple):
        for value in given:
            yield from _fields(value)
