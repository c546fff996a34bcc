"""Stored facts: files of stores with the attribute ``fact``, looked up by owner, and the former versions of facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, and_, case, delete, func, insert, or_, select, tuple_, update

from portico_server.core.dataclass import dataclass
from portico_server.core.facts import FACT, FACTS_OF_SEVERAL, OWNER
from portico_server.db.rows import portions
from portico_server.db.schema import fact_versions, files, store_files, stores

FACT_PREFIX = "fact-"
"""Prefix of the names of files that contain facts."""

_IS_FACT: Final = and_(
    files.c.filename.startswith(FACT_PREFIX, autoescape=True),
    store_files.c.attributes[FACT].as_boolean(),
    store_files.c.attributes[OWNER].as_string() == files.c.owner,
)
"""Condition of the rows of facts, whose owner is also the owner of the file."""

MAX_VERSIONS: Final = 20
"""Maximum number of former versions of a fact; the oldest are deleted."""


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


@dataclass(frozen=True, slots=True)
class FactVersionRow:
    """A former version of the fact whose current version is the file ``file_id``. Times are in seconds since 1970."""

    id: int
    file_id: str
    text: str
    attributes: Mapping[str, Any]
    changed_at: float
    ended_at: float
    reason: str


def newest_facts(
    connection: Connection,
    owner: str | None,
    limit: int,
    *,
    store_id: str | None = None,
    fact_id: str | None = None,
    filename: str | None = None,
    where: Mapping[str, str] | None = None,
    after_fact: FactRow | None = None,
) -> list[FactRow]:
    """Return the facts of ``owner`` (``None``: of every key), newest first; optionally only those in a store, with an
    id, in files with a name, with these attributes, or after another fact.
    """
    column = store_files.c.attributes
    coalesce = func.coalesce(column["id"].as_string(), files.c.id)
    query = (
        select(coalesce, files.c.id, store_files.c.store_id, files.c.sha256, column, files.c.created_at)
        .join(store_files, store_files.c.file_id == files.c.id)
        .where(_IS_FACT)
        .order_by(files.c.created_at.desc(), files.c.id.desc())
        .limit(limit)
    )
    if owner is not None:
        query = query.where(files.c.owner == owner)
    if store_id is not None:
        query = query.where(store_files.c.store_id == store_id)
    if fact_id is not None:
        query = query.where(coalesce == fact_id)
    if filename is not None:
        query = query.where(files.c.filename == filename)
    if after_fact is not None:
        query = query.where(
            tuple_(files.c.created_at, files.c.id) < (after_fact.created_at, after_fact.file_id)
        )
    for name, value in (where or {}).items():
        query = query.where(column[name].as_string() == value)
    return [FactRow(*row) for row in connection.execute(query)]


def own_files(connection: Connection, store_id: str, owner: str, file_ids: Sequence[str]) -> set[str]:
    """Return which of the files are facts of ``owner`` in a store."""
    own_ids: set[str] = set()
    for ids in portions(file_ids):
        query = (
            select(files.c.id)
            .join(store_files, store_files.c.file_id == files.c.id)
            .where(files.c.id.in_(ids), files.c.owner == owner, store_files.c.store_id == store_id, _IS_FACT)
        )
        own_ids.update(connection.execute(query).scalars())
    return own_ids


def note_owner(connection: Connection, store_id: str, owner: str) -> None:
    """Record that a store holds facts of ``owner``, before the first fact is stored."""
    column = stores.c.facts_of
    value = case((or_(column.is_(None), column == owner), owner), else_=FACTS_OF_SEVERAL)
    connection.execute(update(stores).where(stores.c.id == store_id).values(facts_of=value))


def versions(connection: Connection, file_ids: Sequence[str]) -> dict[str, list[FactVersionRow]]:
    """Return the former versions of facts by file, newest first."""
    rows: dict[str, list[FactVersionRow]] = {}
    for ids in portions(file_ids):
        query = (
            select(fact_versions).where(fact_versions.c.file_id.in_(ids)).order_by(fact_versions.c.id.desc())
        )
        for row in connection.execute(query):
            rows.setdefault(row.file_id, []).append(FactVersionRow(*row))
    return rows


def add_version(
    connection: Connection, old_row: FactRow, text: str, reason: str, ended_at: float, file_id: str
) -> None:
    """Make the file ``old_row`` a former version of the fact, whose current version becomes ``file_id``."""
    values = {"text": text, "attributes": dict(old_row.attributes), "changed_at": old_row.created_at}
    connection.execute(
        update(fact_versions).where(fact_versions.c.file_id == old_row.file_id).values(file_id=file_id)
    )
    connection.execute(
        insert(fact_versions).values(file_id=file_id, **values, ended_at=ended_at, reason=reason)
    )
    newest = (
        select(fact_versions.c.id)
        .where(fact_versions.c.file_id == file_id)
        .order_by(fact_versions.c.id.desc())
        .limit(MAX_VERSIONS)
    )
    connection.execute(
        delete(fact_versions).where(fact_versions.c.file_id == file_id, fact_versions.c.id.not_in(newest))
    )


def remove_version(connection: Connection, version_id: int) -> None:
    """Delete a former version."""
    connection.execute(delete(fact_versions).where(fact_versions.c.id == version_id))
