"""A real database with one store, filled by the functions that ingest uses, and an embedding model."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, insert

from portico.wire import Event, Place
from portico_server.core.errors import EngineFailed
from portico_server.core.principal import LOCAL, Principal
from portico_server.core.registry import Registry
from portico_server.core.request import Embed, Request, Search, SearchResult, Vectors
from portico_server.core.servable import Card
from portico_server.db import chunks
from portico_server.db.chunks import NewChunk
from portico_server.db.database import Database
from portico_server.db.schema import files, store_files, stores
from portico_server.db.store_files import move_files
from portico_server.features.stores.default_reranker import DefaultReranker
from portico_server.features.stores.index.manager import IndexManager
from portico_server.features.stores.store import StoreServable

STORE = "vs_1"
MODEL = "letters"
DIMENSIONS = 32


def vector(text: str, dimensions: int = DIMENSIONS) -> bytes:
    """Return a vector of the words in ``text``: texts that share words are close."""
    total = np.zeros(dimensions)
    for word in text.lower().split():
        total += _word(word, dimensions)
    return (total / (np.linalg.norm(total) or 1)).astype("<f4").tobytes()


@lru_cache(100_000)
def _word(word: str, dimensions: int) -> NDArray[np.float64]:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
    return np.random.default_rng(seed).standard_normal(dimensions)


def within(part: str, whole: bytes) -> bytes:
    """Return the vector of a part of a text whose vector is ``whole``."""
    total = 0.75 * np.frombuffer(vector(part), "<f4") + 0.25 * np.frombuffer(whole, "<f4")
    return (total / (np.linalg.norm(total) or 1)).astype("<f4").tobytes()


class LetterEmbedding:
    """An in-process embedding model; ``broken`` makes it fail.

    The vector of a part of a text is a quarter of the vector of the whole text.
    """

    def __init__(self, labels: Mapping[str, Any] | None = None) -> None:
        self.card = Card(MODEL, "model", capabilities=frozenset({"embeddings", "spans"}), labels=labels or {})
        self.broken = False
        self.breaks_after: int | None = None
        """Number of calls after which it fails; ``None`` if it never does."""
        self.dimensions = DIMENSIONS
        self.asked: list[str] = []

    async def call(self, request: Request, context: Any) -> Vectors:
        assert isinstance(request, Embed)
        if self.breaks_after is not None:
            self.broken = self.breaks_after == 0
            self.breaks_after = max(0, self.breaks_after - 1)
        if self.broken:
            raise EngineFailed("The process behind 'letters' crashed.")
        self.asked += request.input
        if request.spans is not None:
            data = [
                within(text[first:last], document_vector)
                for text, spans in zip(request.input, request.spans, strict=True)
                for document_vector in (vector(text),)
                for first, last in spans
            ]
            return Vectors(tuple(data), self.dimensions)
        return Vectors(tuple(vector(text, self.dimensions) for text in request.input), self.dimensions)


class Asking:
    """The context of a standalone search."""

    def __init__(self, caller: Principal = LOCAL) -> None:
        self.run = "run_test"
        self.caller = caller
        self.deadline = None
        self.events: list[Event] = []

    async def emit(self, event: Event) -> None:
        self.events.append(event)

    async def call(self, name: str, request: Request, *, listener: Any = None) -> Any:
        raise AssertionError("a search calls its embedding model itself")


class StoreFixture:
    """One store on one database in ``home``."""

    def __init__(self, home: Path, *, model: str = MODEL) -> None:
        self.home = home
        self.model = model
        self.database = Database.at(home / "portico.db")
        self.database.prepare()
        self.registry = Registry()
        self.letters = LetterEmbedding()
        self.registry.add(self.letters)
        self.indexes = IndexManager(self.database, home / "indexes")

    async def open(self) -> StoreFixture:
        await self.database.write(_store, self.model)
        return self

    async def put(
        self, file_id: str, *texts: str, attributes: Mapping[str, Any] | None = None, vectors: bool = True
    ) -> int:
        """Write a file's chunks as ingest does, and return the number of the change."""
        model = self.model if vectors and self.model else None
        return await self.database.write(_put, file_id, texts, attributes or {}, model)

    async def rename(self, file_id: str, name: str) -> None:
        """Rename a file, as a sync of a folder does."""
        await self.database.write(move_files, STORE, [(file_id, name, {"source_size": 1})], [file_id])

    async def remove(self, file_id: str) -> int:
        return await self.database.write(chunks.remove_file, STORE, file_id)

    async def search(self, query: str, **options: Any) -> SearchResult:
        return await self.store().call(Search(query, **options), Asking())

    async def find(self, query: str, **options: Any) -> list[str]:
        """Return the texts found, in order."""
        return [passage.text for passage in (await self.search(query, **options)).passages]

    def store(self) -> StoreServable:
        card = Card("shelf", "store", capabilities=frozenset({"search"}))
        return StoreServable(
            card,
            STORE,
            self.model,
            condition=lambda _caller: None,
            indexes=self.indexes,
            database=self.database,
            registry=self.registry,
            reranker=DefaultReranker(self.registry),
        )

    async def restart(self) -> None:
        """Close the indexes and open them again, as a new start of the daemon does."""
        await self.indexes.close()
        self.indexes = IndexManager(self.database, self.home / "indexes")

    async def close(self) -> None:
        await self.indexes.close()
        self.database.close()


def _store(connection: Connection, model: str) -> None:
    timestamp = time.time()
    connection.execute(
        insert(stores).values(
            id=STORE,
            name="shelf",
            embedding_model=model,
            metadata={},
            last_active_at=timestamp,
            created_at=timestamp,
        )
    )


def _put(
    connection: Connection,
    file_id: str,
    texts: Sequence[str],
    attributes: Mapping[str, Any],
    model: str | None,
) -> int:
    timestamp = time.time()
    connection.execute(
        insert(files)
        .prefix_with("OR IGNORE")
        .values(
            id=file_id,
            filename=f"{file_id}.txt",
            purpose="assistants",
            bytes=1,
            sha256="0",
            created_at=timestamp,
        )
    )
    connection.execute(
        insert(store_files)
        .prefix_with("OR IGNORE")
        .values(
            store_id=STORE,
            file_id=file_id,
            status="completed",
            attributes=dict(attributes),
            chunking={},
            created_at=timestamp,
        )
    )
    new = [NewChunk(text, Place(line=number, start=number)) for number, text in enumerate(texts, start=1)]
    data = [vector(text) for text in texts] if model else None
    return chunks.put(connection, STORE, [chunks.FileChunks(file_id, new, data)], model)
