"""Stored facts: files of stores with the attribute ``fact``, looked up by owner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, func, select

from portico_server.core.dataclass import dataclass
from portico_server.db.schema import files, store_files

FACT_PREFIX = "fact-"
"""Prefix of the names of files that contain facts."""


@dataclass(frozen=True, slots=True)
class FactRow:
    """The file of a fact in a store. ``id`` is the id of the fact, which stays the same when a new file replaces the
    old one.
    """

    id: str
    file_id: str
    store_id: str
    sha256: str
    attributes: Mapping[str, Any]
    created_at: float


def newest_facts(
    connection: Connection,
    owner: str,
    limit: int,
    *,
    store_id: str | None = None,
    fact_id: str | None = None,
    where: Mapping[str, str] | None = None,
) -> list[FactRow]:
    """Return the facts of ``owner``, newest first; optionally only those in a store, with an id, or with these
    attributes.
    """
    column = store_files.c.attributes
    coalesce = func.coalesce(column["id"].as_string(), files.c.id)
    query = (
        select(coalesce, files.c.id, store_files.c.store_id, files.c.sha256, column, files.c.created_at)
        .join(store_files, store_files.c.file_id == files.c.id)
        .where(files.c.owner == owner, files.c.filename.startswith(FACT_PREFIX, autoescape=True))
        .where(column["fact"].as_boolean(), column["owner"].as_string() == owner)
        .order_by(files.c.created_at.desc(), files.c.id.desc())
        .limit(limit)
    )
    if store_id is not None:
        query = query.where(store_files.c.store_id == store_id)
    if fact_id is not None:
        query = query.where(coalesce == fact_id)
    for name, value in (where or {}).items():
        query = query.where(column[name].as_string() == value)
    return [FactRow(*row) for row in connection.execute(query)]
