"""The items of a session's conversation: as the client sends them, as it is told them, and as a model is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import orjson

from portico_server.core import fields
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, TooMany
from portico_server.core.fields import BodyField
from portico_server.core.ids import new_id
from portico_server.core.invalid import missing, not_one_of, wrong

Item: TypeAlias = dict[str, Any]
"""One item as OpenAI's Realtime API defines it."""

MAX_ITEMS: Final = 1_000
MAX_ITEMS_BYTES: Final = 16 * 2**20
MAX_ID_CHARS: Final = 64
ROOT: Final = "root"
"""What the item before the first one is called."""

NO_OUTPUT: Final = "There is no result yet."
"""What a model is told of a call whose output is still to come."""

# --- what a client sends ----------------------------------------------------------------------------------------


def _part(*kinds: str, **properties: BodyField) -> BodyField:
    return fields.closed({"type": fields.choice(*kinds), **properties}, required=("type",))


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
"""By role, then by type: the parts that a message may have."""

_NEEDED: Final = {
    "input_text": "text",
    "output_text": "text",
    "input_image": "image_url",
    "output_audio": "transcript",
}


def _parts(role: str, value: Any, at: str) -> None:
    known = _PARTS[role]
    for number, one in enumerate(value):
        path = f"{at}[{number}]"
        kind = one.get("type") if isinstance(one, dict) else None
        if isinstance(kind, str) and kind not in known:
            not_one_of(f"{path}.type", kind, known)
        known[kind if isinstance(kind, str) else next(iter(known))].check(one, path)
        if one.get(_NEEDED[one["type"]]) is None:
            missing(f"{path}.{_NEEDED[one['type']]}")


_ANY_LIST: Final = fields.items(fields.anything(), "a list of content parts")
_COMMON: Final = {
    "id": fields.text(),
    "type": fields.text(),
    "object": fields.choice("realtime.item"),
    "status": fields.choice("completed", "incomplete", "in_progress"),
}
_ITEM: Final = fields.by_type(
    {
        "message": fields.closed(
            {**_COMMON, "role": fields.choice(*_PARTS), "content": _ANY_LIST}, required=("role", "content")
        ),
        "function_call": fields.closed(
            {**_COMMON, "name": fields.name(), "call_id": fields.name(), "arguments": _TEXT},
            required=("name", "arguments"),
        ),
        "function_call_output": fields.closed(
            {**_COMMON, "call_id": fields.name(), "output": _TEXT}, required=("call_id", "output")
        ),
        "mcp_approval_response": fields.closed(
            {
                **_COMMON,
                "approval_request_id": fields.name(),
                "approve": fields.boolean(),
                "reason": _TEXT,
            },
            required=("approval_request_id", "approve"),
        ),
    }
)


def read_item(value: Any, at: str) -> Item:
    """An item that a client sends, whole. Raises `InvalidRequest` with the path below ``at``."""
    _ITEM.check(value, at)
    given = {name: found for name, found in value.items() if found is not None}
    kind = given["type"]
    if kind == "message":
        _parts(given["role"], given["content"], f"{at}.content")
    item_id = given.get("id") or new_id("item_")
    if len(item_id) > MAX_ID_CHARS or item_id == ROOT:
        raise InvalidRequest(
            f"'{at}.id' must have at most {MAX_ID_CHARS} characters, and not be '{ROOT}'.", param=f"{at}.id"
        )
    if kind == "function_call":
        given.setdefault("call_id", new_id("call_"))
    return {**given, "id": item_id, "object": "realtime.item", "status": "completed"}


# --- the conversation -------------------------------------------------------------------------------------------


class SessionItems:
    """Items in their order. ``keep`` is called with the bytes of all of them; whether there is room for so many."""

    def __init__(self, keep: Callable[[int], bool]) -> None:
        self.id = new_id("conv_")
        self._keep = keep
        self._items: list[Item] = []
        self._sizes: dict[str, int] = {}
        self._bytes = 0

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._sizes

    def get(self, item_id: str, at: str = "item_id") -> Item:
        """One of them. Raises `NotFound`."""
        return self._items[self._index(item_id, at)]

    def size(self, item_id: str) -> int:
        """Bytes of one of them."""
        return self._sizes[item_id]

    def before(self, item_id: str) -> str | None:
        """The id of the item before one of them."""
        index = self._index(item_id, "item_id")
        return self._items[index - 1]["id"] if index else None

    def add(self, item: Item, after: str | None = None) -> None:
        """Put one at the end, or ``after`` another one. Raises `NotFound`, `Conflict`, `TooMany`."""
        if item["id"] in self._sizes:
            raise Conflict(
                f"There is an item '{item['id']}' already. Send another id, or none.",
                code="item_already_exists",
                param="item.id",
            )
        index = len(self._items)
        if after is not None:
            index = 0 if after == ROOT else self._index(after, "previous_item_id") + 1
        self._resize(item["id"], len(orjson.dumps(item)))
        self._items.insert(index, item)

    def change(self, item: Item) -> None:
        """One of them, as it is now. One that is there no longer is left out."""
        if item["id"] in self._sizes:
            index = self._index(item["id"], "item_id")
            self._resize(item["id"], len(orjson.dumps(item)))
            self._items[index] = item

    def delete(self, item_id: str) -> None:
        """Forget one. Raises `NotFound`."""
        del self._items[self._index(item_id, "item_id")]
        self._bytes -= self._sizes.pop(item_id)
        self._keep(self._bytes)

    def forget_oldest(self) -> None:
        """Make room for one more item where no model is asked with those before."""
        if len(self._items) >= MAX_ITEMS:
            self.delete(self._items[0]["id"])

    def require_call(self, call_id: str) -> None:
        """Raises `InvalidRequest` unless there is a call of this id."""
        if not any(item["type"] == "function_call" and item["call_id"] == call_id for item in self._items):
            raise InvalidRequest(
                f"There is no function call with the call_id '{call_id[:100]}' in the conversation.",
                code="invalid_tool_call_id",
                param="item.call_id",
            )

    def _index(self, item_id: str, at: str) -> int:
        if item_id in self._sizes:
            return next(index for index, item in enumerate(self._items) if item["id"] == item_id)
        raise NotFound(
            f"There is no item '{item_id[:100]}' in this conversation.", code="item_not_found", param=at
        )

    def _resize(self, item_id: str, size: int) -> None:
        total = self._bytes + size - self._sizes.get(item_id, 0)
        many = len(self._sizes) + (item_id not in self._sizes) > MAX_ITEMS
        if many or total > MAX_ITEMS_BYTES or not self._keep(total):
            self._keep(self._bytes)
            raise TooMany(
                f"The conversation is full: it has {len(self._sizes):,} items of {self._bytes:,} bytes together. At "
                f"most {MAX_ITEMS:,} items of {MAX_ITEMS_BYTES:,} bytes are kept, or fewer where other calls of this "
                "key need the room. Delete items.",
                code="conversation_full",
                param="item",
            )
        self._sizes[item_id], self._bytes = size, total


# --- what a model is asked --------------------------------------------------------------------------------------


def as_input(items: Iterable[Item]) -> list[dict[str, Any]]:
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


def resolved(given: Sequence[Any], conversation: SessionItems, at: str) -> list[Item]:
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
