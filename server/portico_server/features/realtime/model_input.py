"""Converts the items of a session's conversation to model input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from portico_server.core import fields
from portico_server.core.invalid import wrong
from portico_server.features.realtime.conversation import MAX_ITEMS, MAX_ITEMS_BYTES, SessionItems
from portico_server.features.realtime.items import Item, read_item

NO_OUTPUT: Final = "There is no result yet."
"""The text that a model sees instead of the output of a call, while the output is missing."""


def to_input(items: Iterable[Item]) -> list[dict[str, Any]]:
    """Return the items as the input of a response. Each output directly follows its call, and every call has an
    output.
    """
    item_list = list(items)
    outputs = {item["call_id"]: item for item in item_list if item["type"] == "function_call_output"}
    input_items: list[dict[str, Any]] = []
    for item in item_list:
        kind = item["type"]
        if kind == "message":
            if item["content"]:
                content = [_to_input(part) for part in item["content"]]
                input_items.append({"type": kind, "id": item["id"], "role": item["role"], "content": content})
        elif kind == "function_call" and item["status"] == "completed":
            call_id = item["call_id"]
            output_text = outputs[call_id]["output"] if call_id in outputs else NO_OUTPUT
            call_item = {"type": kind, "id": item["id"], "call_id": call_id, "name": item["name"]}
            input_items.append({**call_item, "arguments": item["arguments"]})
            input_items.append({"type": "function_call_output", "call_id": call_id, "output": output_text})
        elif not kind.startswith("function_call"):
            input_items.append(item)
    return input_items


def _to_input(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return a part of a message in the format of the Responses API; audio is replaced by its transcript."""
    if part["type"] in ("input_audio", "output_audio"):
        return {"type": part["type"].replace("audio", "text"), "text": part["transcript"] or ""}
    return dict(part)


def resolve_references(references: Sequence[Any], conversation: SessionItems, at: str) -> list[Item]:
    """Return the ``input`` of a response in which references to conversation items are replaced by the items."""
    if len(references) > MAX_ITEMS:
        wrong(at, f"has {len(references):,} items, more than {MAX_ITEMS:,}")
    resolved_items = []
    referenced_bytes = 0
    for number, reference in enumerate(references):
        path = f"{at}[{number}]"
        if isinstance(reference, dict) and reference.get("type") == "item_reference":
            _REFERENCE.check(reference, path)
            resolved_items.append(conversation.get(reference["id"], f"{path}.id"))
            referenced_bytes += conversation.size(reference["id"])
            if referenced_bytes > MAX_ITEMS_BYTES:
                wrong(
                    at,
                    f"refers to items with more than {MAX_ITEMS_BYTES:,} bytes in total; each reference "
                    "counts",
                )
        else:
            resolved_items.append(read_item(reference, path))
    return resolved_items


_REFERENCE: Final = fields.closed_object(
    {"type": fields.text(), "id": fields.name()}, required_fields=("id",)
)
