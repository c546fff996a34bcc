"""Chunks: written with their vectors and the change log in one transaction, read by the indexes."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select

from portico.wire import Place
from portico_server.core.dataclass import dataclass
from portico_server.db import changes
from portico_server.db import links as link_rows
from portico_server.db.changes import DEFAULT_GROUP
from portico_server.db.links import NewLink
from portico_server.db.rows import portions
from portico_server.db.schema import chunks, files, vectors


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A piece of a file, not yet numbered. Its order in the file is its place in the sequence it comes in."""

    text: str
    place: Place
    links: Sequence[NewLink] = ()
    """What it names, in a store with links."""


@dataclass(frozen=True, slots=True)
class FileChunks:
    """A run of chunks of one file: in place of all that it has if it is the ``first``, else behind that.

    ``data``: one vector for each, float32, little-endian, of unit length.
    """

    file_id: str
    chunks: Sequence[NewChunk]
    data: Sequence[bytes] | None = None
    first: bool = True


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """A piece of a file as it is kept; ``ordinal`` counts from 0 in the file."""

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
    """Write pieces of files of one store and ``group`` in their order and log it; the store's last change number.

    ``model`` is that of the vectors. Raises `NotFound` if the store is gone. Nothing is visible before the caller's
    transaction commits.
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
    """The place of the last chunk of a file in ``group``, if it has any there."""
    condition = in_file(store_id, file_id, group)
    row = connection.execute(
        select(chunks.c.place).where(condition).order_by(chunks.c.ordinal.desc()).limit(1)
    ).scalar()
    return None if row is None else place_of(row)


def files_with_chunks(connection: Connection, store_id: str, file_ids: Sequence[str]) -> set[str]:
    """Those of the files that have chunks in the group that every store has."""
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
    """How many chunks a file has in the group that every store has, and the bytes of their vectors of ``model`` ("" for
    none); ``None`` unless each has one.
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
    """Delete the file's chunks and vectors of all groups and log it; the store's last change number.

    Raises `NotFound` if the store is gone.
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
    """Log that files are called otherwise now, in all groups: their chunks are found by their names, too."""
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
    """Delete all chunks and vectors of a store that stays, and log it: a run of ids for each group."""
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
        # Chunks of other stores may lie in between: they are in no index of this one.
        removed_range = range(row.first, row.last + 1)
        changes.append(connection, store_id, [("delete", "", removed_range)], row.group_name)


def remove_group(connection: Connection, store_id: str, group: str) -> None:
    """Delete all chunks and vectors of a group that is being removed; its index goes with it."""
    connection.execute(delete(chunks).where(chunks.c.store_id == store_id, chunks.c.group_name == group))


def remove_store(connection: Connection, store_id: str) -> None:
    """Delete all chunks and vectors of a store that is being deleted; its log goes with its row."""
    connection.execute(delete(chunks).where(chunks.c.store_id == store_id))


def of_file(
    connection: Connection,
    store_id: str,
    file_id: str,
    after: int = -1,
    limit: int = 1_000,
    *,
    group: str = DEFAULT_GROUP,
) -> list[ChunkRow]:
    """The chunks of a file and group in their order, those with an ordinal above ``after``."""
    rows = connection.execute(
        select(chunks.c.id, chunks.c.file_id, chunks.c.ordinal, chunks.c.text, chunks.c.place)
        .where(in_file(store_id, file_id, group), chunks.c.ordinal > after)
        .order_by(chunks.c.ordinal)
        .limit(limit)
    )
    return [ChunkRow(row.id, row.file_id, row.ordinal, row.text, place_of(row.place)) for row in rows]


def ids(connection: Connection, store_id: str, group: str = DEFAULT_GROUP) -> array[int]:
    """The ids of all chunks of a group of a store, ascending."""
    condition = (chunks.c.store_id == store_id) & (chunks.c.group_name == group)
    found_array = array("q", connection.execute(select(chunks.c.id).where(condition)).scalars())
    return array("q", sorted(found_array))


def texts(connection: Connection, chunk_ids: Sequence[int]) -> list[tuple[int, str, str]]:
    """(id, file id, text) of those of the chunks ``chunk_ids`` that exist, by id."""
    chunk_texts: list[tuple[int, str, str]] = []
    for part in portions(chunk_ids):
        query = select(chunks.c.id, chunks.c.file_id, chunks.c.text).where(chunks.c.id.in_(part))
        chunk_texts += [(row.id, row.file_id, row.text) for row in connection.execute(query)]
    return sorted(chunk_texts)


def indexed_texts(
    connection: Connection, chunk_ids: Sequence[int]
) -> list[tuple[int, str, str, str, str, int]]:
    """As `texts`, with the headings above each chunk as one text, the name of its file, and its place in that."""
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
    """Those of the chunks ``chunk_ids`` that a store has."""
    existing_ids: set[int] = set()
    for part in portions(chunk_ids):
        condition = chunks.c.id.in_(part) & (chunks.c.store_id == store_id)
        existing_ids |= set(connection.execute(select(chunks.c.id).where(condition)).scalars())
    return existing_ids


def id_at(connection: Connection, store_id: str, file_id: str, start: int) -> int | None:
    """The last chunk of a file, in the group that every store has, that begins at or before a character."""
    begins = chunks.c.place["start"].as_integer()
    query = select(chunks.c.id).where(
        in_file(store_id, file_id, DEFAULT_GROUP), func.coalesce(begins, 0) <= start
    )
    return connection.execute(query.order_by(chunks.c.ordinal.desc()).limit(1)).scalar()


def count(connection: Connection, store_id: str, group: str = DEFAULT_GROUP) -> int:
    """How many chunks a group of a store has."""
    condition = (chunks.c.store_id == store_id) & (chunks.c.group_name == group)
    total = connection.execute(select(func.count()).select_from(chunks).where(condition)).scalar()
    return int(total or 0)


def in_file(store_id: str, file_id: str, group: str) -> ColumnElement[bool]:
    """Whether a chunk is of that file and group."""
    return and_(chunks.c.store_id == store_id, chunks.c.file_id == file_id, chunks.c.group_name == group)


def _delete(
    connection: Connection, store_id: str, file_ids: Sequence[str], group: str
) -> list[tuple[changes.Op, str, range]]:
    """Remove the chunks of files; what there is to log."""
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
    """How many chunks a file has."""
    last = connection.execute(
        select(func.max(chunks.c.ordinal)).where(in_file(store_id, file_id, group))
    ).scalar()
    return 0 if last is None else int(last) + 1


def _insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> dict[tuple[str, int], int]:
    """Add chunks; their ids by file and ordinal.

    Asked for by what identifies a row: asked for in the order of ``rows``, SQLite would get one statement for each.
    """
    if not rows:
        return {}
    query = insert(chunks).returning(chunks.c.file_id, chunks.c.ordinal, chunks.c.id)
    return {(file_id, ordinal): chunk_id for file_id, ordinal, chunk_id in connection.execute(query, rows)}


def runs(ids: Sequence[int]) -> Iterator[range]:
    """Ascending ids as runs without a gap: one, unless several writers took turns."""
    start = 0
    for i in range(1, len(ids) + 1):
        if i == len(ids) or ids[i] != ids[i - 1] + 1:
            yield range(ids[start], ids[i - 1] + 1)
            start = i


_PLACE_DEFAULTS = {item.name: item.default for item in fields(Place)}


def _place_values(place: Place) -> dict[str, Any]:
    """A place as JSON, without what is not set."""
    return {
        name: value for name, default in _PLACE_DEFAULTS.items() if (value := getattr(place, name)) != default
    }


def place_of(value: Mapping[str, Any]) -> Place:
    """A place as it is kept, read back."""
    return Place(**{**value, "heading": tuple(value.get("heading", ()))})
