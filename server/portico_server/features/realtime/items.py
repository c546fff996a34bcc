"""The items of a session's conversation, in the format in which clients send them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from portico_server.core import fields
from portico_server.core.errors import InvalidRequest
from portico_server.core.fields import BodyField
from portico_server.core.ids import new_id
from portico_server.core.invalid import missing, not_one_of

Item: TypeAlias = dict[str, Any]
"""An item in the format of OpenAI's Realtime API."""

MAX_ID_CHARS: Final = 64
ROOT: Final = "root"
"""Id that a client sends as the previous item, to insert an item at the beginning."""


def _part(*kinds: str, **properties: BodyField) -> BodyField:
    return fields.closed_object({"type": fields.choice(*kinds), **properties}, required_fields=("type",))


_TEXT: Final = fields.text()
_PARTS: Final[Mapping[str, Mapping[str, BodyField]]] = {
    "system": {"input_text": _part("input_text", text=_TEXT)},
    "user": {
        "input_text": _part("input_text", text=_TEXT),
        "input_image": _part(
            "input_image", image_url=_TEXT, detail=fields.choice("auto", "low", "high", "original")
        ),
    },
    "assistant": {
        "output_text": _part("output_text", text=_TEXT),
        "output_audio": _part("output_audio", transcript=_TEXT),
    },
}
"""The parts that a message may contain, by role and by type of part."""

_NEEDED: Final = {
    "input_text": "text",
    "output_text": "text",
    "input_image": "image_url",
    "output_audio": "transcript",
}


def _parts(role: str, value: Any, at: str) -> None:
    body_fields = _PARTS[role]
    for number, part in enumerate(value):
        path = f"{at}[{number}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind not in body_fields:
            not_one_of(f"{path}.type", kind, body_fields)
        body_fields[kind if isinstance(kind, str) else next(iter(body_fields))].check(part, path)
        if part.get(_NEEDED[part["type"]]) is None:
            missing(f"{path}.{_NEEDED[part['type']]}")


_ANY_LIST: Final = fields.items(fields.any_value(), "a list of content parts")
_COMMON: Final = {
    "id": fields.text(),
    "type": fields.text(),
    "object": fields.choice("realtime.item"),
    "status": fields.choice("completed", "incomplete", "in_progress"),
}
_ITEM: Final = fields.by_type(
    {
        "message": fields.closed_object(
            {**_COMMON, "role": fields.choice(*_PARTS), "content": _ANY_LIST},
            required_fields=("role", "content"),
        ),
        "function_call": fields.closed_object(
            {**_COMMON, "name": fields.name(), "call_id": fields.name(), "arguments": _TEXT},
            required_fields=("name", "arguments"),
        ),
        "function_call_output": fields.closed_object(
            {**_COMMON, "call_id": fields.name(), "output": _TEXT}, required_fields=("call_id", "output")
        ),
        "mcp_approval_response": fields.closed_object(
            {
                **_COMMON,
                "approval_request_id": fields.name(),
                "approve": fields.boolean(),
                "reason": _TEXT,
            },
            required_fields=("approval_request_id", "approve"),
        ),
    }
)


def read_item(value: Any, at: str) -> Item:
    """Parse an item sent by a client. If it is invalid, raise `InvalidRequest` with a path that begins with ``at``."""
    _ITEM.check(value, at)
    given_fields = {name: field_value for name, field_value in value.items() if field_value is not None}
    kind = given_fields["type"]
    if kind == "message":
        _parts(given_fields["role"], given_fields["content"], f"{at}.content")
    item_id = given_fields.get("id") or new_id("item_")
    if len(item_id) > MAX_ID_CHARS or item_id == ROOT:
        raise InvalidRequest(
            f"'{at}.id' must have at most {MAX_ID_CHARS} characters, and must not be '{ROOT}'.",
            param=f"{at}.id",
        )
    if kind == "function_call":
        given_fields.setdefault("call_id", new_id("call_"))
    return {**given_fields, "id": item_id, "object": "realtime.item", "status": "completed"}
