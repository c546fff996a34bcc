"""Placeholders that are filled from an item or an answer: ``{{item.question}}``, ``{{sample.output_json.n}}``. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from portico_server.core.template import substitute

PLACE: Final = re.compile(r"\{\{\s*(item|sample)((?:\.[A-Za-z_][A-Za-z0-9_]*)+)\s*\}\}")

FIELD: Final = re.compile(r"\{\{\s*item\.([A-Za-z_][A-Za-z0-9_]*)")
"""A placeholder for a field of the item: ``{{item.answer}}``."""


def fill(template: str, sources: Mapping[str, Any]) -> str:
    """Fill placeholders such as ``{{item.name}}`` and ``{{sample.output_text}}``; missing values become empty.

    Raises `InvalidRequest` before building a text that would be too long.
    """

    def value(match: re.Match[str]) -> str:
        field_value: Any = sources.get(match[1])
        for name in match[2][1:].split("."):
            field_value = field_value.get(name) if isinstance(field_value, Mapping) else None
        if field_value is None:
            return ""
        return field_value if isinstance(field_value, str) else json.dumps(field_value, ensure_ascii=False)

    return substitute(PLACE, value, template)


def filled(content: Any, sources: Mapping[str, Any]) -> Any:
    """Fill the placeholders in the content of a message: a text, one part, or a list of parts.

    Text parts are joined into one text. If the content includes an image, the result is a list of parts in the format
    of chat models.
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
    content_part = part if isinstance(part, Mapping) else {}
    if content_part.get("type") in ("input_image", "image_url"):
        address = content_part.get("image_url")
        url = address.get("url") if isinstance(address, Mapping) else address
        return {"type": "image_url", "image_url": {"url": fill(str(url or ""), sources)}}
    return {"type": "text", "text": fill(str(content_part.get("text") or ""), sources)}


def fields(template: Any) -> frozenset[str]:
    """Return the item fields that the templates in a value refer to. Python source is not searched."""
    return frozenset(_fields(template))


def _fields(template: Any) -> Iterator[str]:
    if isinstance(template, str):
        yield from FIELD.findall(template)
    elif isinstance(template, Mapping):
        for name, value in template.items():
            if name != "source":
                yield from _fields(value)
    elif isinstance(template, list | tuple):
        for value in template:
            yield from _fields(value)
