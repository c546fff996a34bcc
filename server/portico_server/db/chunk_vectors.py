"""The vectors of chunks, by embedding model. Indexes read them; a change of the embedding model writes new ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, delete, exists, insert, select

from portico_server.db import pgvector
from portico_server.db.rows import portions
from portico_server.db.schema import chunks, vectors


def read_vectors(connection: Connection, model: str, chunk_ids: Sequence[int]) -> list[tuple[int, bytes]]:
    """Return (chunk id, vector) of the chunks among ``chunk_ids`` that have a vector of ``model``, sorted by id."""
    found_vectors: list[tuple[int, bytes]] = []
    for part in portions(chunk_ids):
        query = select(vectors.c.chunk_id, vectors.c.data).where(
            vectors.c.chunk_id.in_(part), vectors.c.model == model
        )
        found_vectors += [(row.chunk_id, row.data) for row in connection.execute(query)]
    return sorted(found_vectors)


def chunks_without_vector(
    connection: Connection, model: str, chunk_ids: Sequence[int]
) -> list[tuple[int, str]]:
    """Return (id, text) of the chunks among ``chunk_ids`` without a vector of ``model``, sorted by id."""
    texts_by_id: list[tuple[int, str]] = []
    for part in portions(chunk_ids):
        has = exists().where(vectors.c.chunk_id == chunks.c.id, vectors.c.model == model)
        query = select(chunks.c.id, chunks.c.text).where(chunks.c.id.in_(part), ~has)
        texts_by_id += [(row.id, row.text) for row in connection.execute(query)]
    return sorted(texts_by_id)


def add_vectors(connection: Connection, model: str, data: Mapping[int, bytes]) -> None:
    """Add vectors, keyed by chunk id, except for chunks that no longer exist. This is not logged as a change."""
    for part in portions(list(data)):
        existing_ids = connection.execute(select(chunks.c.id).where(chunks.c.id.in_(part))).scalars().all()
        if existing_ids:
            connection.execute(
                insert(vectors),
                [{"chunk_id": chunk, "model": model, "data": data[chunk]} for chunk in existing_ids],
            )
            pgvector.put(connection, existing_ids)


def drop_vectors(connection: Connection, model: str, chunk_ids: Sequence[int]) -> None:
    """Delete the vectors of ``model`` for the chunks ``chunk_ids``."""
    for part in portions(chunk_ids):
        connection.execute(delete(vectors).where(vectors.c.chunk_id.in_(part), vectors.c.model == model))
