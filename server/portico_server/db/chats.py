"""Stored chat completions, which were requested with ``store``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Select, delete, func, select, update

from portico_server.core.dataclass import dataclass
from portico_server.db.rows import Order, RowPage, Rows
from portico_server.db.schema import chat_completions


@dataclass(frozen=True, slots=True)
class ChatRow:
    """A stored chat. ``messages`` and ``document`` are JSON text; ``bytes`` is their total size."""

    id: str
    owner: str
    model: str
    metadata: Mapping[str, Any]
    messages: str
    document: str
    bytes: int
    created_at: float


@dataclass(frozen=True, slots=True)
class ChatFilter:
    """A filter for chats by ``owner`` (``None`` for all owners), ``model`` and ``metadata``."""

    owner: str | None
    model: str | None = None
    metadata: Mapping[str, str] | None = None


_CHATS = Rows(chat_completions, ChatRow)

get = _CHATS.get


def keep(connection: Connection, row: ChatRow, max_rows: int, max_bytes: int) -> None:
    """Store a chat, and delete the owner's oldest chats above the maximum number or the maximum total size."""
    _CHATS.add(connection, row)
    condition = chat_completions.c.owner == row.owner
    held_row = connection.execute(
        select(func.count(), func.sum(chat_completions.c.bytes)).where(condition)
    ).one()
    count, total = held_row[0], int(held_row[1])
    if count <= max_rows and total <= max_bytes:
        return
    oldest = select(chat_completions.c.id, chat_completions.c.bytes).where(
        condition, chat_completions.c.id != row.id
    )
    removed_ids: list[str] = []
    for oldest_row in connection.execute(oldest.order_by(chat_completions.c.id)):
        if count <= max_rows and total <= max_bytes:
            break
        removed_ids.append(oldest_row.id)
        count, total = count - 1, total - oldest_row.bytes
    connection.execute(delete(chat_completions).where(chat_completions.c.id.in_(removed_ids)))


def page(
    connection: Connection, chat_filter: ChatFilter, *, after: str | None, limit: int, order: Order
) -> RowPage[ChatRow]:
    """Return a page of the chats that match ``chat_filter``, by creation time."""
    query = _CHATS.select
    if chat_filter.owner is not None:
        query = query.where(chat_completions.c.owner == chat_filter.owner)
    if chat_filter.model is not None:
        query = query.where(chat_completions.c.model == chat_filter.model)
    for name, value in (chat_filter.metadata or {}).items():
        query = query.where(chat_completions.c.metadata[name].as_string() == value)
    return _CHATS.page(connection, _page_after(query, after, order), limit)


def _page_after(query: Select[Any], after: str | None, order: Order) -> Select[Any]:
    # Ids begin with the creation time, so they sort like created_at, and no two are equal.
    at = chat_completions.c.id
    if after is not None:
        query = query.where(at > after if order == "asc" else at < after)
    return query.order_by(at.asc() if order == "asc" else at.desc())


def describe(connection: Connection, chat_id: str, metadata: Mapping[str, Any]) -> None:
    """Replace the metadata of a chat."""
    connection.execute(
        update(chat_completions).where(chat_completions.c.id == chat_id).values(metadata=dict(metadata))
    )


def remove(connection: Connection, chat_id: str) -> None:
    """Delete a chat."""
    connection.execute(delete(chat_completions).where(chat_completions.c.id == chat_id))


def count_old(connection: Connection, before: float) -> int:
    """Return the number of chats created before a time."""
    old = chat_completions.c.created_at < before
    return connection.execute(select(func.count()).select_from(chat_completions).where(old)).scalar_one()


def forget(connection: Connection, before: float, limit: int) -> int:
    """Delete chats created before a time; return the number deleted."""
    old = select(chat_completions.c.id).where(chat_completions.c.created_at < before).limit(limit)
    ids = list(connection.execute(old).scalars())
    if ids:
        connection.execute(delete(chat_completions).where(chat_completions.c.id.in_(ids)))
    return len(ids)
