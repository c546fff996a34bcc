"""Conversations: ordered items that responses continue from and append to."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from portico_server.core import json_values
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.core.ids import new_id
from portico_server.core.invalid import missing, wrong
from portico_server.core.principal import Principal
from portico_server.db import conversations as rows
from portico_server.db.conversations import ConversationRow
from portico_server.db.database import Database
from portico_server.db.rows import json_bytes
from portico_server.features.responses import items
from portico_server.features.responses.ids import ItemIds
from portico_server.features.responses.items import Item
from portico_server.features.responses.read import metadata
from portico_server.runs.quotas import StorageQuota

MAX_ADDED_ITEMS: Final = 20
"""Maximum number of items that one request may add."""


@dataclass(frozen=True, slots=True)
class ItemPage:
    """A page of items in order, and whether more items follow."""

    items: Sequence[Item]
    more: bool


class ConversationStore:
    """The stored conversations. Callers see only their own conversations."""

    def __init__(self, database: Database, quota: StorageQuota) -> None:
        self._database = database
        self._quota = quota

    async def create(self, body: Mapping[str, Any], caller: Principal) -> ConversationRow:
        """Create a conversation with the ``metadata`` and ``items`` of a request. Raises `InvalidRequest`."""
        _require_known(body, ("metadata", "items"))
        now = time.time()
        checked_metadata = metadata(body.get("metadata") or {})
        row = ConversationRow(new_id("conv_"), caller.id, checked_metadata, 0, now, now)
        new_items = _read(body.get("items") or [])
        await self._quota.admit(
            self._database, caller.id, sum(map(json_bytes, (checked_metadata, *new_items)))
        )
        await self._database.write(rows.add, row, new_items)
        return row

    async def get(self, conversation_id: str, caller: Principal) -> ConversationRow:
        """Return a conversation. Raises `NotFound`."""
        row = await self._database.read(rows.get, conversation_id)
        if row is None or not caller.sees(row.owner):
            raise NotFound(
                f"The conversation '{conversation_id[:80]}' does not exist or you have no access to it.",
                code="conversation_not_found",
                param="conversation_id",
            )
        return row

    async def change(
        self, conversation_id: str, body: Mapping[str, Any], caller: Principal
    ) -> ConversationRow:
        """Replace the ``metadata`` of a conversation."""
        row = await self.get(conversation_id, caller)
        _require_known(body, ("metadata",))
        if body.get("metadata") is None:
            missing("metadata")
        checked_metadata = metadata(body["metadata"])
        await self._quota.admit(self._database, row.owner, json_bytes(checked_metadata))
        await self._database.write(rows.describe, row.id, checked_metadata)
        return await self.get(conversation_id, caller)

    async def delete(self, conversation_id: str, caller: Principal) -> None:
        """Delete a conversation with its items. The responses made in it remain."""
        row = await self.get(conversation_id, caller)
        await self._database.write(rows.remove, row.id)

    async def add(self, conversation_id: str, body: Mapping[str, Any], caller: Principal) -> Sequence[Item]:
        """Append the ``items`` of a request, and return them as stored. Raises `InvalidRequest`."""
        row = await self.get(conversation_id, caller)
        _require_known(body, ("items",))
        if body.get("items") is None:
            missing("items")
        new_items = _read(body["items"])
        await self._quota.admit(self._database, row.owner, sum(map(json_bytes, new_items)))
        if await self._database.write(rows.extend, row.id, new_items) == "gone":
            await self.get(conversation_id, caller)
        return new_items

    async def page(
        self, conversation_id: str, caller: Principal, *, after: str | None, limit: int, descending: bool
    ) -> ItemPage:
        """Return up to ``limit`` items after ``after``. Raises `NotFound`."""
        row = await self.get(conversation_id, caller)
        item_page = await self._database.read(
            rows.page, row.id, after=after, limit=limit, descending=descending
        )
        if item_page is None:
            raise _no_item(str(after), "after")
        texts, has_more = item_page
        return ItemPage([orjson.loads(text) for text in texts], has_more)

    async def item(self, conversation_id: str, item_id: str, caller: Principal) -> Item:
        """Return an item. Raises `NotFound`."""
        row = await self.get(conversation_id, caller)
        item_text = await self._database.read(rows.item, row.id, item_id)
        if item_text is None:
            raise _no_item(item_id, "item_id")
        item: Item = orjson.loads(item_text)
        return item

    async def remove(self, conversation_id: str, item_id: str, caller: Principal) -> ConversationRow:
        """Remove an item. Raises `NotFound`."""
        row = await self.get(conversation_id, caller)
        if not await self._database.write(rows.remove_item, row.id, item_id):
            raise _no_item(item_id, "item_id")
        return row


def _read(value: Any) -> list[Item]:
    item_list = json_values.items(value, "items", "a list of items")
    if len(item_list) > MAX_ADDED_ITEMS:
        wrong("items", f"has {len(item_list)} items; a request may add at most {MAX_ADDED_ITEMS}")
    new_items = items.read(item_list, ItemIds(), "items")
    for number, item in enumerate(new_items):
        if item["type"] == "item_reference":
            wrong(f"items[{number}].type", "is 'item_reference', which a conversation cannot contain")
    return new_items


def _require_known(body: Mapping[str, Any], known_names: Sequence[str]) -> None:
    for name in body:
        if name not in known_names:
            raise InvalidRequest(
                f"Unknown parameter: '{name[:100]}'.", code="unknown_parameter", param=name[:100]
            )


def _no_item(item_id: str, param: str) -> NotFound:
    return NotFound(
        f"The item '{item_id[:80]}' does not exist in this conversation.", code="item_not_found", param=param
    )
