"""The vectors of chunks, by embedding model: what the indexes read, and what a change of the model writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, delete, exists, insert, select

from portico_server.db.rows import portions
from portico_server.db.schema import chunks, vectors


def read_vectors(connection: Connection, model: str, wanted: Sequence[int]) -> list[tuple[int, bytes]]:
    """(chunk id, vector of ``model``) of those of the chunks ``wanted`` that have one, by id."""
    found: list[tuple[int, bytes]] = []
    for part in portions(wanted):
        query = select(vectors.c.chunk_id, vectors.c.data).where(
            vectors.c.chunk_id.in_(part), vectors.c.model == model
        )
        found += [(row.chunk_id, row.data) for row in connection.execute(query)]
    return sorted(found)


def chunks_without_vector(connection: Connection, model: str, wanted: Sequence[int]) -> list[tuple[int, str]]:
    """(id, text) of those of the chunks ``wanted`` that have no vector of ``model``, by id."""
    found: list[tuple[int, str]] = []
    for part in portions(wanted):
        has = exists().where(vectors.c.chunk_id == chunks.c.id, vectors.c.model == model)
        query = select(chunks.c.id, chunks.c.text).where(chunks.c.id.in_(part), ~has)
        found += [(row.id, row.text) for row in connection.execute(query)]
    return sorted(found)


def add_vectors(connection: Connection, model: str, data: Mapping[int, bytes]) -> None:
    """Further vectors of chunks, by id; those whose chunk has gone are left out. Nothing is logged."""
    for part in portions(list(data)):
        here = connection.execute(select(chunks.c.id).where(chunks.c.id.in_(part))).scalars().all()
        if here:
            connection.execute(
                insert(vectors),
                [{"chunk_id": chunk, "model": model, "data": data[chunk]} for chunk in here],
            )


def drop_vectors(connection: Connection, model: str, wanted: Sequence[int]) -> None:
    """Delete the vectors that the chunks ``wanted`` have of ``model``."""
    for part in portions(wanted):
        connection.execute(delete(vectors).where(vectors.c.chunk_id.in_(part), vectors.c.model == model))
