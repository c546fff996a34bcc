"""The items of a session's conversation, as a model is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from portico_server.apps.realtime.conversation import MAX_ITEMS, MAX_ITEMS_BYTES, SessionItems
from portico_server.apps.realtime.items import Item, read_item
from portico_server.core import fields
from portico_server.core.invalid import wrong

NO_OUTPUT: Final = "There is no result yet."
"""What a model is told of a call whose output is still to come."""


def to_input(items: Iterable[Item]) -> list[dict[str, Any]]:
    """The items as the input of a response: each output behind its call, and one for each call."""
    listed = list(items)
    outputs = {item["call_id"]: item for item in listed if item["type"] == "function_call_output"}
    found: list[dict[str, Any]] = []
    for item in listed:
        kind = item["type"]
        if kind == "message":
            if item["content"]:
                content = [_asked(part) for part in item["content"]]
                found.append({"type": kind, "id": item["id"], "role": item["role"], "content": content})
        elif kind == "function_call" and item["status"] == "completed":
            call_id = item["call_id"]
            said = outputs[call_id]["output"] if call_id in outputs else NO_OUTPUT
            called = {"type": kind, "id": item["id"], "call_id": call_id, "name": item["name"]}
            found.append({**called, "arguments": item["arguments"]})
            found.append({"type": "function_call_output", "call_id": call_id, "output": said})
        elif not kind.startswith("function_call"):
            found.append(item)
    return found


def _asked(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part of a message as a response takes it: of a sound, what is said in it."""
    if part["type"] in ("input_audio", "output_audio"):
        return {"type": part["type"].replace("audio", "text"), "text": part["transcript"] or ""}
    return dict(part)


def resolve_references(given: Sequence[Any], conversation: SessionItems, at: str) -> list[Item]:
    """The ``input`` of a response: items, and references to those of the conversation by their ids."""
    if len(given) > MAX_ITEMS:
        wrong(at, f"has {len(given):,} items, more than {MAX_ITEMS:,}")
    found = []
    referred = 0
    for number, one in enumerate(given):
        path = f"{at}[{number}]"
        if isinstance(one, dict) and one.get("type") == "item_reference":
            _REFERENCE.check(one, path)
            found.append(conversation.get(one["id"], f"{path}.id"))
            referred += conversation.size(one["id"])
            if referred > MAX_ITEMS_BYTES:
                wrong(at, f"refers to more than {MAX_ITEMS_BYTES:,} bytes, each reference counted")
        else:
            found.append(read_item(one, path))
    return found


_REFERENCE: Final = fields.closed({"type": fields.text(), "id": fields.name()}, required=("id",))
