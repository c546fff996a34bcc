"""The conversation of a session: its items in order, up to a maximum number and size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import orjson

from portico_server.core.errors import Conflict, InvalidRequest, NotFound, TooMany
from portico_server.core.ids import new_id
from portico_server.features.realtime.items import ROOT, Item

MAX_ITEMS: Final = 1_000
MAX_ITEMS_BYTES: Final = 16 * 2**20


class SessionItems:
    """The items of a conversation in order. ``keep`` receives their total size in bytes and returns whether the key
    may use that much memory.
    """

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
        """Return an item. Raises `NotFound`."""
        return self._items[self._index(item_id, at)]

    def size(self, item_id: str) -> int:
        """Return the size of an item in bytes."""
        return self._sizes[item_id]

    def id_before(self, item_id: str) -> str | None:
        """Return the id of the item before an item, or ``None`` for the first item."""
        index = self._index(item_id, "item_id")
        return self._items[index - 1]["id"] if index else None

    def add(self, item: Item, after: str | None = None) -> None:
        """Add an item at the end, or after the item with the id ``after``. Raises `NotFound`, `Conflict`, `TooMany`."""
        if item["id"] in self._sizes:
            raise Conflict(
                f"An item with the id '{item['id']}' already exists. Send a different id, or omit it.",
                code="item_already_exists",
                param="item.id",
            )
        index = len(self._items)
        if after is not None:
            index = 0 if after == ROOT else self._index(after, "previous_item_id") + 1
        self._resize(item["id"], len(orjson.dumps(item)))
        self._items.insert(index, item)

    def change(self, item: Item) -> None:
        """Replace an item with its current state. If the item no longer exists, do nothing."""
        if item["id"] in self._sizes:
            index = self._index(item["id"], "item_id")
            self._resize(item["id"], len(orjson.dumps(item)))
            self._items[index] = item

    def delete(self, item_id: str) -> None:
        """Delete an item. Raises `NotFound`."""
        del self._items[self._index(item_id, "item_id")]
        self._bytes -= self._sizes.pop(item_id)
        self._keep(self._bytes)

    def forget_oldest(self) -> None:
        """If the conversation is full, delete its oldest item. For conversations whose earlier items no model
        receives.
        """
        if len(self._items) >= MAX_ITEMS:
            self.delete(self._items[0]["id"])

    def require_call(self, call_id: str) -> None:
        """Raise `InvalidRequest` unless the conversation has a call with this id."""
        if not any(item["type"] == "function_call" and item["call_id"] == call_id for item in self._items):
            raise InvalidRequest(
                f"The conversation has no function call with the call_id '{call_id[:100]}'.",
                code="invalid_tool_call_id",
                param="item.call_id",
            )

    def _index(self, item_id: str, at: str) -> int:
        if item_id in self._sizes:
            return next(index for index, item in enumerate(self._items) if item["id"] == item_id)
        raise NotFound(f"The conversation has no item '{item_id[:100]}'.", code="item_not_found", param=at)

    def _resize(self, item_id: str, size: int) -> None:
        total = self._bytes + size - self._sizes.get(item_id, 0)
        has_too_many = len(self._sizes) + (item_id not in self._sizes) > MAX_ITEMS
        if has_too_many or total > MAX_ITEMS_BYTES or not self._keep(total):
            self._keep(self._bytes)
            raise TooMany(
                f"The conversation is full: it has {len(self._sizes):,} items with {self._bytes:,} bytes in "
                f"total. The maximum is {MAX_ITEMS:,} items with {MAX_ITEMS_BYTES:,} bytes, or less if other "
                "calls of this key need the memory. Delete items.",
                code="conversation_full",
                param="item",
            )
        self._sizes[item_id], self._bytes = size, total
