"""Stored responses and pages of items in OpenAI's format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from starlette.responses import Response

from portico_server.apps.responses.event_builder import to_client_item
from portico_server.apps.responses.items import Item
from portico_server.db.responses import ResponseRow

DOCUMENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "As at OpenAI", "content": {"application/json": {"schema": {"type": "object"}}}}
}


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


def answer(document: Mapping[str, Any]) -> Response:
    """Return a document as a FastAPI response without using FastAPI's encoder."""
    return Response(orjson.dumps(document), media_type="application/json")
