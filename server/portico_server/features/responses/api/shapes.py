"""Stored responses and pages of items in OpenAI's format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from portico_server.api.declarations import TEXT, Declaration
from portico_server.db.responses import ResponseRow
from portico_server.features.responses.api.answer_shapes import ModelResponse
from portico_server.features.responses.event_builder import to_client_item
from portico_server.features.responses.items import Item

DOCUMENT_OR_EVENTS: Final[Declaration] = {
    200: {
        "description": "As at OpenAI",
        "model": ModelResponse,
        "content": {"application/json": {}, "text/event-stream": {"schema": TEXT}},
    }
}
"""An object in OpenAI's format, or the events that describe how it came about."""


def response_document(row: ResponseRow, include: frozenset[str]) -> dict[str, Any]:
    """Return a stored response in its current state."""
    document: dict[str, Any] = orjson.loads(row.document)
    public_fields = {name: value for name, value in document.items() if not name.startswith("_")}
    return {**public_fields, "output": [to_client_item(item, include) for item in document["output"]]}


def page(items: Sequence[Item], include: frozenset[str], *, has_more: bool) -> dict[str, Any]:
    """Return a page of items. On an empty page, the first and last ids are empty strings, because clients require
    strings.
    """
    return {
        "object": "list",
        "data": [to_client_item(item, include) for item in items],
        "first_id": items[0]["id"] if items else "",
        "last_id": items[-1]["id"] if items else "",
        "has_more": has_more,
    }
