"""Chunks: written together with their vectors and their change log entries, and read by the indexes."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select

from portico.wire import Place
from portico_server.core.dataclass import dataclass
from portico_server.db import changes, pgvector
from portico_server.db import links as link_rows
from portico_server.db.changes import DEFAULT_GROUP
from portico_server.db.links import NewLink
from portico_server.db.rows import portions
from portico_server.db.schema import chunks, files, vectors


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A chunk without an id. Its position in the sequence is its order in the file."""

    text: str
    place: Place
    links: Sequence[NewLink] = ()
    """The links from the chunk, if the store follows links."""


@dataclass(frozen=True, slots=True)
class FileChunks:
    """Consecutive chunks of one file. If they are the ``first``, they replace all chunks of the file; otherwise they
    are appended.

    ``data`` contains a vector for each chunk: float32, little-endian, of unit length.
    """

    file_id: str
    chunks: Sequence[NewChunk]
    data: Sequence[bytes] | None = None
    first: bool = True


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """A stored chunk; ``ordinal`` is its number in the file, from 0."""

    id: int
    file_id: str
    ordinal: int
    text: str
    place: Place


def put(
    connection: Connection,
    store_id: str,
    pieces: Sequence[FileChunks],
    model: str | None = None,
    *,
    group: str = DEFAULT_GROUP,
) -> int:
    """Write chunks of files in one store and ``group``, in order, and log them; return the number of the store's last
    change.

    ``model`` is the model of the vectors. Raises `NotFound` if the store no longer exists. Nothing is visible until
    the caller's transaction commits.
    """
    fresh = list(dict.fromkeys(piece.file_id for piece in pieces if piece.first))
    entries = _delete(connection, store_id, fresh, group)
    ends = dict.fromkeys(fresh, 0)
    rows: list[dict[str, Any]] = []
    for piece in pieces:
        start = ends.get(piece.file_id)
        if start is None:
            start = _length(connection, store_id, piece.file_id, group)
        ends[piece.file_id] = start + len(piece.chunks)
        rows += [
            {
                "store_id": store_id,
                "file_id": piece.file_id,
                "group_name": group,
                "ordinal": number,
                "text": chunk.text,
                "place": _place_values(chunk.place),
            }
            for number, chunk in enumerate(piece.chunks, start=start)
        ]
    ids = _insert(connection, rows)
    data: list[dict[str, Any]] = []
    links: dict[int, Sequence[NewLink]] = {}
    begin = 0
    for piece in pieces:
        piece_ids = [ids[row["file_id"], row["ordinal"]] for row in rows[begin : begin + len(piece.chunks)]]
        begin += len(piece_ids)
        entries += [("put", piece.file_id, run) for run in runs(sorted(piece_ids))] if piece_ids else []
        links |= {
            chunk_id: chunk.links
            for chunk_id, chunk in zip(piece_ids, piece.chunks, strict=True)
            if chunk.links
        }
        if model is not None and piece.data is not None:
            data += [
                {"chunk_id": chunk_id, "model": model, "data": vector}
                for chunk_id, vector in zip(piece_ids, piece.data, strict=True)
            ]
    if data:
        connection.execute(insert(vectors), data)
    link_rows.add(connection, links)
    return changes.append(connection, store_id, entries, group)


def last_place(connection: Connection, store_id: str, file_id: str, group: str) -> Place | None:
    """Return the place of a file's last chunk in ``group``, or ``None`` if it has no chunk."""
    condition = in_file(store_id, file_id, group)
    row = connection.execute(
        select(chunks.c.place).where(condition).order_by(chunks.c.ordinal.desc()).limit(1)
    ).scalar()
    return None if row is None else place_of(row)


def files_with_chunks(connection: Connection, store_id: str, file_ids: Sequence[str]) -> set[str]:
    """Return the files among ``file_ids`` that have chunks in the default group."""
    found_file_ids: set[str] = set()
    for part in portions(file_ids):
        condition = (
            (chunks.c.store_id == store_id)
            & chunks.c.file_id.in_(part)
            & (chunks.c.group_name == DEFAULT_GROUP)
        )
        found_file_ids |= set(
            connection.execute(select(chunks.c.file_id).where(condition).distinct()).scalars()
        )
    return found_file_ids


def unfinished_chunks(
    connection: Connection, store_id: str, file_id: str, model: str
) -> tuple[int, int] | None:
    """Return the number of a file's chunks in the default group, and the total size in bytes of their vectors of
    ``model`` ("" for no model). Return ``None`` if the file has no chunks, or if a chunk lacks a vector.
    """
    condition = in_file(store_id, file_id, DEFAULT_GROUP)
    count = int(connection.execute(select(func.count()).select_from(chunks).where(condition)).scalar_one())
    if not count or not model:
        return (count, 0) if count else None
    join = chunks.join(vectors, (vectors.c.chunk_id == chunks.c.id) & (vectors.c.model == model))
    query = select(func.count(), func.sum(func.length(vectors.c.data))).select_from(join).where(condition)
    embedded_count, weight = connection.execute(query).one()
    return (count, int(weight)) if embedded_count == count else None


def remove_file(connection: Connection, store_id: str, file_id: str) -> int:
    """Delete a file's chunks and vectors in all groups and log this; return the number of the store's last change.

    Raises `NotFound` if the store no longer exists.
    """
    names = connection.execute(
        select(chunks.c.group_name)
        .where(chunks.c.store_id == store_id, chunks.c.file_id == file_id)
        .distinct()
        .order_by(chunks.c.group_name)
    ).scalars()
    number = changes.append(connection, store_id, ())
    for group in names.all():
        number = changes.append(connection, store_id, _delete(connection, store_id, [file_id], group), group)
    return number


def rename_files(connection: Connection, store_id: str, file_ids: Sequence[str]) -> None:
    """Log in all groups that files were renamed, because a search also finds chunks by file name."""
    chunks_by_file: dict[str, dict[str, list[int]]] = {}
    for part in portions(file_ids):
        condition = (chunks.c.store_id == store_id) & chunks.c.file_id.in_(part)
        query = select(chunks.c.group_name, chunks.c.file_id, chunks.c.id).where(condition)
        for group, file_id, chunk in connection.execute(query.order_by(chunks.c.id)):
            chunks_by_file.setdefault(group, {}).setdefault(file_id, []).append(chunk)
    for group, of_file in chunks_by_file.items():
        entries: list[tuple[changes.Op, str, range]] = [
            ("name", file_id, run) for file_id, file_chunks in of_file.items() for run in runs(file_chunks)
        ]
        changes.append(connection, store_id, entries, group)


def empty_store(connection: Connection, store_id: str) -> None:
    """Delete all chunks and vectors of a store but keep the store. Log one range of ids for each group."""
    spans = connection.execute(
        select(
            chunks.c.group_name,
            func.min(chunks.c.id).label("first"),
            func.max(chunks.c.id).label("last"),
        )
        .where(chunks.c.store_id == store_id)
        .group_by(chunks.c.group_name)
    ).all()
    remove_store(connection, store_id)
    for row in spans:
        # Ids in the range may belong to chunks of other stores, which this store's indexes do not contain.
        removed_range = range(row.first, row.last + 1)
        changes.append(connection, store_id, [("delete", "", removed_range)], row.group_name)


def remove_group(connection: Connection, store_id: str, group: str) -> None:
    """Delete all chunks and vectors of a group that is being removed; its index is removed with it."""
    connection.execute(delete(chunks).where(chunks.c.store_id == store_id, chunks.c.group_name == group))
    pgvector.drop(connection, store_id, group)


def remove_store(connection: Connection, store_id: str) -> None:
    """Delete all chunks and vectors of a store that is being deleted; its log is deleted together with its row."""
    connection.execute(delete(chunks).where(chunks.c.store_id == store_id))
    pgvector.drop(connection, store_id)


def of_file(
    connection: Connection,
    store_id: str,
    file_id: str,
    after: int = -1,
    limit: int = 1_000,
    *,
    group: str = DEFAULT_GROUP,
) -> list[ChunkRow]:
    """Return the chunks of a file in a group, in order, with an ordinal above ``after``."""
    rows = connection.execute(
        select(chunks.c.id, chunks.c.file_id, chunks.c.ordinal, chunks.c.text, chunks.c.place)
        .where(in_file(store_id, file_id, group), chunks.c.ordinal > after)
        .order_by(chunks.c.ordinal)
        .limit(limit)
    )
    return [ChunkRow(row.id, row.file_id, row.ordinal, row.text, place_of(row.place)) for row in rows]


def first_of_files(connection: Connection, store_id: str, file_ids: Sequence[str]) -> dict[str, ChunkRow]:
    """Return the first chunk of each file that has chunks in the default group, by the id of the file."""
    rows = connection.execute(
        select(chunks.c.id, chunks.c.file_id, chunks.c.ordinal, chunks.c.text, chunks.c.place).where(
            chunks.c.store_id == store_id,
            chunks.c.file_id.in_(file_ids),
            chunks.c.group_name == DEFAULT_GROUP,
            chunks.c.ordinal == 0,
        )
    )
    return {
        row.file_id: ChunkRow(row.id, row.file_id, row.ordinal, row.text, place_of(row.place)) for row in rows
    }


def ids(connection: Connection, store_id: str, group: str = DEFAULT_GROUP) -> array[int]:
    """Return the ids of all chunks of a store's group, ascending."""
    condition = (chunks.c.store_id == store_id) & (chunks.c.group_name == group)
    found_array = array("q", connection.execute(select(chunks.c.id).where(condition)).scalars())
    return array("q", sorted(found_array))


def texts(connection: Connection, chunk_ids: Sequence[int]) -> list[tuple[int, str, str]]:
    """Return (id, file id, text) of the existing chunks among ``chunk_ids``, sorted by id."""
    chunk_texts: list[tuple[int, str, str]] = []
    for part in portions(chunk_ids):
        query = select(chunks.c.id, chunks.c.file_id, chunks.c.text).where(chunks.c.id.in_(part))
        chunk_texts += [(row.id, row.file_id, row.text) for row in connection.execute(query)]
    return sorted(chunk_texts)


def indexed_texts(
    connection: Connection, chunk_ids: Sequence[int]
) -> list[tuple[int, str, str, str, str, int]]:
    """Return the same as `texts`, and for each chunk also its headings as one text, the name of its file, and its
    ordinal in the file.
    """
    text_rows: list[tuple[int, str, str, str, str, int]] = []
    for part in portions(chunk_ids):
        query = (
            select(
                chunks.c.id,
                chunks.c.file_id,
                chunks.c.text,
                chunks.c.place,
                chunks.c.ordinal,
                files.c.filename,
            )
            .join(files, files.c.id == chunks.c.file_id, isouter=True)
            .where(chunks.c.id.in_(part))
        )
        text_rows += [
            (
                row.id,
                row.file_id,
                row.text,
                "\n".join(row.place.get("heading", ())),
                row.filename or "",
                row.ordinal,
            )
            for row in connection.execute(query)
        ]
    return sorted(text_rows)


def of_store(connection: Connection, store_id: str, chunk_ids: Sequence[int]) -> set[int]:
    """Return the chunks among ``chunk_ids`` that belong to a store."""
    existing_ids: set[int] = set()
    for part in portions(chunk_ids):
        condition = chunks.c.id.in_(part) & (chunks.c.store_id == store_id)
        existing_ids |= set(connection.execute(select(chunks.c.id).where(condition)).scalars())
    return existing_ids


def id_at(connection: Connection, store_id: str, file_id: str, start: int) -> int | None:
    """Return the id of the last chunk of a file, in the default group, that begins at or before the character
    ``start``.
    """
    begins = chunks.c.place["start"].as_integer()
    query = select(chunks.c.id).where(
        in_file(store_id, file_id, DEFAULT_GROUP), func.coalesce(begins, 0) <= start
    )
    return connection.execute(query.order_by(chunks.c.ordinal.desc()).limit(1)).scalar()


def count(connection: Connection, store_id: str, group: str = DEFAULT_GROUP) -> int:
    """Return the number of chunks in a store's group."""
    condition = (chunks.c.store_id == store_id) & (chunks.c.group_name == group)
    total = connection.execute(select(func.count()).select_from(chunks).where(condition)).scalar()
    return int(total or 0)


def in_file(store_id: str, file_id: str, group: str) -> ColumnElement[bool]:
    """Return the SQL condition that a chunk belongs to this file and group."""
    return and_(chunks.c.store_id == store_id, chunks.c.file_id == file_id, chunks.c.group_name == group)


def _delete(
    connection: Connection, store_id: str, file_ids: Sequence[str], group: str
) -> list[tuple[changes.Op, str, range]]:
    """Delete the chunks of files in a group; return the changes to log."""
    deletions: list[tuple[changes.Op, str, range]] = []
    for part in portions(file_ids):
        condition = (
            (chunks.c.store_id == store_id) & chunks.c.file_id.in_(part) & (chunks.c.group_name == group)
        )
        chunks_by_file: dict[str, list[int]] = {}
        for row in connection.execute(
            select(chunks.c.file_id, chunks.c.id).where(condition).order_by(chunks.c.id)
        ):
            chunks_by_file.setdefault(row.file_id, []).append(row.id)
        if chunks_by_file:
            connection.execute(delete(chunks).where(condition))
        deletions += [
            ("delete", file_id, run) for file_id, ids in chunks_by_file.items() for run in runs(ids)
        ]
    return deletions


def _length(connection: Connection, store_id: str, file_id: str, group: str) -> int:
    """Return the number of chunks of a file in a group."""
    last = connection.execute(
        select(func.max(chunks.c.ordinal)).where(in_file(store_id, file_id, group))
    ).scalar()
    return 0 if last is None else int(last) + 1


def _insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> dict[tuple[str, int], int]:
    """Insert chunks; return their ids, keyed by file and ordinal.

    The returned rows are matched by file and ordinal, because SQLite would need one statement per row to return them
    in the order of ``rows``.
    """
    if not rows:
        return {}
    query = insert(chunks).returning(chunks.c.file_id, chunks.c.ordinal, chunks.c.id)
    return {(file_id, ordinal): chunk_id for file_id, ordinal, chunk_id in connection.execute(query, rows)}


def runs(ids: Sequence[int]) -> Iterator[range]:
    """Yield ascending ids as ranges without gaps. There is only one range unless several writers alternated."""
    start = 0
    for i in range(1, len(ids) + 1):
        if i == len(ids) or ids[i] != ids[i - 1] + 1:
            yield range(ids[start], ids[i - 1] + 1)
            start = i


_PLACE_DEFAULTS = {item.name: item.default for item in fields(Place)}


def _place_values(place: Place) -> dict[str, Any]:
    """Return a place as a JSON object without unset fields."""
    return {
        name: value for name, default in _PLACE_DEFAULTS.items() if (value := getattr(place, name)) != default
    }


def place_of(value: Mapping[str, Any]) -> Place:
    """Return the place that a stored JSON object describes."""
    return Place(**{**value, "heading": tuple(value.get("heading", ()))})
