"""Progress of linking or unlinking a store's chunks after a change of the store's setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, delete, select

from portico_server.db.links import NewLink, add
from portico_server.db.rows import portions
from portico_server.db.schema import chunks, links, stores


def catch_up(
    connection: Connection,
    store_id: str,
    chunk_ids: Sequence[int],
    named_links: Mapping[int, Sequence[NewLink]],
    *,
    keep: bool,
) -> bool:
    """Link a portion of a store's chunks by the names in them, or remove their links if ``keep`` is false, and record
    the progress.

    Deleted chunks are skipped. Returns ``False`` and writes nothing if the store's setting has changed in the
    meantime.
    """
    now = connection.execute(
        select(stores.c.links, stores.c.linked_to).where(stores.c.id == store_id).with_for_update()
    ).first()
    if now is None or now.links is not keep or now.linked_to is None or now.linked_to >= chunk_ids[-1]:
        return False
    for part in portions(chunk_ids):
        if keep:
            existing_ids = (
                connection.execute(select(chunks.c.id).where(chunks.c.id.in_(part))).scalars().all()
            )
            add(connection, {chunk: named_links[chunk] for chunk in existing_ids if chunk in named_links})
        else:
            connection.execute(delete(links).where(links.c.chunk_id.in_(part)))
    connection.execute(stores.update().where(stores.c.id == store_id).values(linked_to=chunk_ids[-1]))
    return True


def caught_up(connection: Connection, store_id: str, *, keep: bool) -> None:
    """Record that all chunks of a store are linked, or that none are if ``keep`` is false, unless the setting has
    changed in the meantime.
    """
    condition = (stores.c.id == store_id) & (stores.c.links == keep)
    connection.execute(stores.update().where(condition).values(linked_to=None))
