"""The vector engines in the daemon, which follow the change log: vectors in its memory, or in files of Qdrant Edge."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from portico_server.core import pools
from portico_server.db import chunk_vectors
from portico_server.db.database import Database
from portico_server.db.store_index import EMBEDDED, QDRANT, IndexName
from portico_server.features.stores.index.opening import open_qdrant, open_vectors
from portico_server.features.stores.index.replay import LogReplayer
from portico_server.features.stores.index.vector_engine import LocalIndex, Ranges, Ranking

logger = logging.getLogger(__name__)

FOLDERS: Final = {EMBEDDED: "vector", QDRANT: "qdrant"}
"""Folders of the vectors, within the folder of the index."""

_OPENERS: Final[dict[str, Callable[[Path], LocalIndex]]] = {EMBEDDED: open_vectors, QDRANT: open_qdrant}


class EmbeddedVectors:
    """A `VectorEngine` in this process. Builds a graph in the background once there are many vectors."""

    def __init__(
        self,
        database: Database,
        store_id: str,
        group: str,
        model: str,
        folder: Path,
        index: IndexName = EMBEDDED,
    ) -> None:
        async def embeddings(chunk_ids: Sequence[int]) -> Sequence[Any]:
            return await database.read(chunk_vectors.read_vectors, model, chunk_ids)

        self._store_id = store_id
        path = folder / FOLDERS[index] / _model_folder(model)
        self._replayer: LogReplayer[LocalIndex] = LogReplayer(
            database, store_id, group, path, _OPENERS[index], embeddings
        )
        self._stopping = False
        self._graph: asyncio.Task[None] | None = None

    @property
    def seq(self) -> int:
        return self._replayer.seq

    @property
    def has_vectors(self) -> bool:
        return self.index is not None and len(self.index) > 0

    @property
    def index(self) -> LocalIndex | None:
        return self._replayer.index

    async def catch_up(self) -> None:
        await self._replayer.catch_up()
        index = self.index
        building = self._graph is not None and not self._graph.done()
        if index is not None and index.wants_graph and not building and not self._stopping:
            self._graph = asyncio.create_task(_build_graph(index), name=f"graph {self._store_id}")
            self._graph.add_done_callback(_log_failure)

    async def wait_for_graph(self) -> None:
        """Wait until a graph that is being built is complete."""
        if self._graph is not None:
            await asyncio.wait({self._graph})

    async def search(self, vector: bytes, limit: int, ranges: Ranges | None) -> Ranking:
        index = self.index
        return [] if index is None else await pools.SEARCH.run(index.search, vector, limit, ranges)

    def stop(self) -> None:
        self._stopping = True
        self._replayer.stop()
        if self.index is not None:
            self.index.stop()

    async def close(self) -> None:
        self.stop()
        await self.wait_for_graph()
        await self._replayer.close()


async def _build_graph(index: LocalIndex) -> None:
    await pools.INDEX.run(index.build)
    await pools.release_memory()


def _log_failure(task: asyncio.Task[None]) -> None:
    """Log the error that ended the build of a graph, because nobody may be waiting for it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.warning("%s: %s", task.get_name(), error, exc_info=error)


def _model_folder(model: str) -> str:
    """Return a separate folder name for each model, so that the vectors of one model are never read as those of
    another.
    """
    return hashlib.sha256(model.encode()).hexdigest()[:16]
