"""Conversations of the Responses API and their items, in order."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import orjson
from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from portico_server.core.dataclass import dataclass
from portico_server.db.rows import Rows, chars_of, count_fitting, json_bytes, portions, text_bytes
from portico_server.db.schema import conversation_items, conversations

ExtendOutcome: TypeAlias = Literal["kept", "gone", "changed"]


@dataclass(frozen=True, slots=True)
class ConversationRow:
    """A conversation; ``last_seq`` is the number of the last item added, even if that item was deleted."""

    id: str
    owner: str
    metadata: Mapping[str, Any]
    last_seq: int
    created_at: float
    updated_at: float


_CONVERSATIONS = Rows(conversations, ConversationRow)

get = _CONVERSATIONS.get


def add(connection: Connection, row: ConversationRow, items: Sequence[Mapping[str, Any]]) -> None:
    """Create a conversation that contains these items."""
    _CONVERSATIONS.add(connection, row, bytes=json_bytes(row.metadata))
    if items:
        extend(connection, row.id, items, row.last_seq)


def ensure(connection: Connection, row: ConversationRow) -> None:
    """Create a conversation, unless a conversation with its id exists."""
    if get(connection, row.id) is None:
        add(connection, row, ())


def describe(connection: Connection, conversation_id: str, metadata: Mapping[str, Any]) -> None:
    """Replace the metadata of a conversation."""
    row = get(connection, conversation_id)
    if row is not None:
        added_bytes = json_bytes(metadata) - json_bytes(row.metadata)
        values = {
            "metadata": dict(metadata),
            "updated_at": time.time(),
            "bytes": conversations.c.bytes + added_bytes,
        }
        connection.execute(update(conversations).where(conversations.c.id == conversation_id).values(values))


def remove(connection: Connection, conversation_id: str) -> None:
    """Delete a conversation with its items."""
    connection.execute(delete(conversations).where(conversations.c.id == conversation_id))


def extend(
    connection: Connection,
    conversation_id: str,
    items: Sequence[Mapping[str, Any]],
    after: int | None = None,
) -> ExtendOutcome:
    """Append items if the conversation's last number is still ``after``. If ``after`` is ``None``, always append
    them.
    """
    row = connection.execute(
        select(conversations.c.last_seq).where(conversations.c.id == conversation_id).with_for_update()
    ).first()
    if row is None:
        return "gone"
    if after is not None and row.last_seq != after:
        return "changed"
    now = time.time()
    rows = [
        {
            "conversation_id": conversation_id,
            "seq": seq,
            "id": item["id"],
            "item": orjson.dumps(item).decode(),
            "created_at": now,
        }
        for seq, item in enumerate(items, row.last_seq + 1)
    ]
    if rows:
        connection.execute(insert(conversation_items), rows)
    added_bytes = sum(text_bytes(str(item_row["item"])) for item_row in rows)
    connection.execute(
        update(conversations)
        .where(conversations.c.id == conversation_id)
        .values(last_seq=row.last_seq + len(rows), updated_at=now, bytes=conversations.c.bytes + added_bytes)
    )
    return "kept"


MAX_WHOLE_ITEMS: Final = 10_000
MAX_WHOLE_CHARS: Final = 32_000_000
"""Maximum number of characters, as JSON, that are read for one answer: of a conversation's items, or of a chain of
responses, whose complete documents count. `MAX_WHOLE_ITEMS` limits the number of items.
"""


def with_items(
    connection: Connection, conversation_id: str
) -> tuple[ConversationRow, list[str] | None] | None:
    """Return a conversation with its items as JSON texts, oldest first; the items are ``None`` if they exceed the
    limits.
    """
    row = get(connection, conversation_id)
    if row is None:
        return None
    size = select(func.count(), func.coalesce(func.sum(func.length(conversation_items.c.item)), 0))
    count, chars = connection.execute(
        size.where(conversation_items.c.conversation_id == conversation_id)
    ).one()
    if count > MAX_WHOLE_ITEMS or chars > MAX_WHOLE_CHARS:
        return row, None
    result = connection.execute(
        select(conversation_items.c.item)
        .where(conversation_items.c.conversation_id == conversation_id)
        .order_by(conversation_items.c.seq)
    )
    return row, list(result.scalars())


def page(
    connection: Connection, conversation_id: str, *, after: str | None, limit: int, descending: bool
) -> tuple[list[str], bool] | None:
    """Return up to ``limit`` items after the item ``after``, as many as fit on a page, and whether more items follow;
    ``None`` if the item ``after`` does not exist.
    """
    items = conversation_items.c
    query = select(items.item).where(items.conversation_id == conversation_id)
    if after is not None:
        at = connection.execute(
            select(items.seq).where(items.conversation_id == conversation_id, items.id == after)
        ).scalar()
        if at is None:
            return None
        query = query.where(items.seq < at if descending else items.seq > at)
    order = items.seq.desc() if descending else items.seq
    query = query.order_by(order)
    count, has_more = count_fitting(connection, query, limit, chars_of(items.item))
    return list(connection.execute(query.limit(count)).scalars()), has_more


def item(connection: Connection, conversation_id: str, item_id: str) -> str | None:
    """Return an item as JSON text, or ``None``."""
    item_text: str | None = connection.execute(
        select(conversation_items.c.item).where(
            conversation_items.c.conversation_id == conversation_id, conversation_items.c.id == item_id
        )
    ).scalar()
    return item_text


def find_items(connection: Connection, ids: Sequence[str], owner: str | None) -> dict[str, str] | None:
    """Return items as JSON texts, keyed by id, from conversations of ``owner``; ``None`` means all owners.

    Returns ``None`` if the items exceed `MAX_WHOLE_CHARS` in total.
    """
    items_by_id: dict[str, str] = {}
    chars = 0
    for portion in portions(ids):
        condition: ColumnElement[bool] = conversation_items.c.id.in_(portion)
        if owner is not None:
            query = select(conversations.c.id).where(conversations.c.owner == owner)
            condition &= conversation_items.c.conversation_id.in_(query)
        size = select(func.coalesce(func.sum(func.length(conversation_items.c.item)), 0)).where(condition)
        chars += connection.execute(size).scalar_one()
        if chars > MAX_WHOLE_CHARS:
            return None
        rows = connection.execute(select(conversation_items.c.id, conversation_items.c.item).where(condition))
        items_by_id |= {row.id: row.item for row in rows}
    return items_by_id


def remove_item(connection: Connection, conversation_id: str, item_id: str) -> bool:
    """Delete an item; return whether it existed."""
    condition = (conversation_items.c.conversation_id == conversation_id) & (
        conversation_items.c.id == item_id
    )
    freed_bytes = sum(
        map(text_bytes, connection.execute(select(conversation_items.c.item).where(condition)).scalars())
    )
    if connection.execute(delete(conversation_items).where(condition)).rowcount == 0:
        return False
    connection.execute(
        update(conversations)
        .where(conversations.c.id == conversation_id)
        .values(bytes=conversations.c.bytes - freed_bytes)
    )
    return True


def count_old(connection: Connection, before: float) -> int:
    """Return the number of conversations last used before a time."""
    old = conversations.c.updated_at < before
    return connection.execute(select(func.count()).select_from(conversations).where(old)).scalar_one()


def forget(connection: Connection, before: float, limit: int) -> int:
    """Delete conversations last used before a time; return the number deleted."""
    old = (
        connection.execute(select(conversations.c.id).where(conversations.c.updated_at < before).limit(limit))
        .scalars()
        .all()
    )
    if old:
        connection.execute(delete(conversations).where(conversations.c.id.in_(old)))
    return len(old)
