"""Reads for searches: the chunks that were found, and the chunks and attributes for filters."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    Select,
    Text,
    any_,
    bindparam,
    cast,
    func,
    select,
)

from portico_server.core.dataclass import dataclass
from portico_server.core.file_labels import FileLabels
from portico_server.core.request import Attributes
from portico_server.db.changes import DEFAULT_GROUP
from portico_server.db.chunks import ChunkRow, in_file, place_of, runs
from portico_server.db.reviewed_files import Review
from portico_server.db.rows import DriverQuery, portions
from portico_server.db.schema import chunks, files, store_files

if TYPE_CHECKING:
    from portico_server.db.database import Database


@dataclass(frozen=True, slots=True)
class HitRow(ChunkRow):
    """A chunk in the form that a search result needs, with its file's name and attributes."""

    filename: str
    attributes: Attributes
    group: str
    created_at: float
    """When the file was added to the store, in seconds since 1970."""
    readers: Sequence[Sequence[str]] | None = None


# Read as text: many files have the same attributes, and the column's type would parse each of them
# separately.
_LABELS = select(
    store_files.c.file_id, cast(store_files.c.attributes, Text), cast(store_files.c.readers, Text)
).where(
    store_files.c.store_id == bindparam("store"),
    store_files.c.status == "completed",
    store_files.c.review != bindparam("hidden", "new"),
)


MAX_DISTINCT = 10_000
"""Maximum number of different sets of file attributes that are read."""

_DISTINCT = DriverQuery(
    _LABELS.with_only_columns(cast(store_files.c.attributes, Text)).distinct().limit(MAX_DISTINCT)
)


def _hits(passages: FromClause, *condition: ColumnElement[bool]) -> Select[Any]:
    """Return the query for the hits among ``passages``, which has the columns of chunks."""
    return (
        select(
            passages.c.id,
            passages.c.file_id,
            files.c.filename,
            store_files.c.attributes,
            passages.c.ordinal,
            passages.c.text,
            passages.c.place,
            passages.c.group_name,
            store_files.c.created_at,
            store_files.c.readers,
        )
        .join(files, files.c.id == passages.c.file_id)
        .join(
            store_files,
            (store_files.c.store_id == bindparam("store")) & (store_files.c.file_id == passages.c.file_id),
        )
        # A file whose indexing failed may still have chunks, which are kept for the next attempt.
        .where(
            *condition,
            store_files.c.status != "failed",
            store_files.c.review != bindparam("hidden", "new"),
        )
    )


# Built only once, because building the statements takes longer than reading the rows.
_HITS = _hits(chunks, chunks.c.id.in_(bindparam("wanted", expanding=True)))

# PostgreSQL expects a single row from the comparisons of status and review, which nearly all rows pass, and would read
# a whole index for each. One array for the ids gives one statement, whatever their number.
HITS_POSTGRES = _hits(
    select(chunks)
    .where(chunks.c.id == any_(bindparam("wanted", type_=ARRAY(Integer))))
    .cte("passages")
    .prefix_with("MATERIALIZED")
)


_FETCHED_HITS = DriverQuery(_HITS, HITS_POSTGRES)


def get(
    connection: Connection, store_id: str, chunk_ids: Sequence[int], hidden: Review = "new"
) -> dict[int, HitRow]:
    """Return the existing chunks of a store among ``chunk_ids``, keyed by id. Chunks of ``hidden`` files are left
    out.
    """
    hit_rows: dict[int, HitRow] = {}
    for part in portions(chunk_ids):
        values = {"store": store_id, "wanted": part, "hidden": hidden}
        query = _HITS if connection.dialect.name == "sqlite" else HITS_POSTGRES
        hit_rows |= _by_id(connection.execute(query, values))
    return hit_rows


async def fetch(
    database: Database, store_id: str, chunk_ids: Sequence[int], hidden: Review = "new"
) -> dict[int, HitRow]:
    """Return a few chunks as `get` does, but by `Database.fetch`."""
    return _by_id(await database.fetch(_FETCHED_HITS, store=store_id, wanted=chunk_ids, hidden=hidden))


def _by_id(rows: Iterable[Sequence[Any]]) -> dict[int, HitRow]:
    return {
        chunk: HitRow(
            chunk, file, ordinal, text, place_of(place), name, attributes, group, created_at, readers
        )
        for chunk, file, name, attributes, ordinal, text, place, group, created_at, readers in rows
    }


def labels(connection: Connection, store_id: str, hidden: Review = "new") -> list[tuple[str, FileLabels]]:
    """Return (file id, labels) of every parsed file of a store, without ``hidden`` files.

    Files with equal labels share one object, which is parsed once.
    """
    known_labels: dict[tuple[str | None, str | None], FileLabels] = {}
    file_labels: list[tuple[str, FileLabels]] = []
    for file_id, *texts in connection.execute(_LABELS, {"store": store_id, "hidden": hidden}):
        attributes, readers = texts
        read = known_labels.get((attributes, readers))
        if read is None:
            read = known_labels[attributes, readers] = FileLabels(
                json.loads(attributes or "{}") or {}, json.loads(readers or "null")
            )
        file_labels.append((file_id, read))
    return file_labels


async def distinct_attributes(database: Database, store_id: str) -> list[Attributes]:
    """Return the different sets of attributes among a store's parsed files; at most `MAX_DISTINCT`."""
    rows = await database.fetch(_DISTINCT, in_thread=True, store=store_id)
    return [json.loads(text) or {} for (text,) in rows]


def ranges_of_files(
    connection: Connection, store_id: str, file_ids: Sequence[str], group: str = DEFAULT_GROUP
) -> list[tuple[int, int]]:
    """Return the ids of all chunks of ``file_ids`` in a group, as ranges without gaps, each as (first, last)."""
    ranges: list[tuple[int, int]] = []
    for part in portions(file_ids):
        condition = (
            (chunks.c.store_id == store_id) & chunks.c.file_id.in_(part) & (chunks.c.group_name == group)
        )
        first, last, number = func.min(chunks.c.id), func.max(chunks.c.id), func.count()
        for row in connection.execute(
            select(chunks.c.file_id, first, last, number).where(condition).group_by(chunks.c.file_id)
        ):
            file_id, low, high, size = row
            ranges += [(low, high)] if size == high - low + 1 else _gaps(connection, store_id, file_id, group)
    return ranges


def _gaps(connection: Connection, store_id: str, file_id: str, group: str) -> list[tuple[int, int]]:
    condition = in_file(store_id, file_id, group)
    chunk_ids = connection.execute(select(chunks.c.id).where(condition).order_by(chunks.c.id)).scalars().all()
    return [(run[0], run[-1]) for run in runs(chunk_ids)]
