"""The vectors of a store: exact search in NumPy, and an approximate graph once there are many vectors.

All methods block, so call them in a worker thread. Several threads may call them concurrently.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from portico_server.features.stores.index import nearest
from portico_server.features.stores.index.nearest import ExactVectors, Floats, Halves, Ids, Ranges, Scored
from portico_server.features.stores.index.offset import LogOffset
from portico_server.features.stores.index.vector_engine import dimensions_differ

logger = logging.getLogger(__name__)

VECTOR_INDEX_VERSION = 2

MIN_GRAPH_VECTORS = 20_000
"""Minimum number of vectors for which building a graph pays off."""

SAVE_INTERVAL_CHANGES = 5_000
"""Number of changes after which a graph is saved again. Changes that were not saved are read from SQL at the next
start.
"""

MAX_PUT_BATCH_VECTORS = 64
"""Maximum number of vectors added at a time. A search waits for at most one such batch."""


class VectorSearch(Protocol):
    """The interface of the exact and the approximate search. Vectors are float32 of unit length; scores are cosines."""

    dimensions: int

    def __len__(self) -> int: ...

    def put(self, ids: Sequence[int], data: Floats) -> None: ...

    def delete(self, first: int, last: int) -> list[int]: ...

    def search(self, vector: Floats, limit: int, ranges: Ranges | None = None) -> Scored: ...

    def items(self) -> tuple[Ids, Floats | Halves]: ...


class VectorIndex:
    """The vectors of one store and one embedding model: searched exactly at first, and with a graph once it has been
    built.

    An exact index is not stored on disk, because reading the vectors from SQL is faster than verifying a file. A graph
    is saved in ``folder`` with a log offset. It may contain later changes too, which are then applied twice.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changing = threading.Lock()
        """Held by code that changes or saves the vectors; acquired before ``_using``."""
        self._using = threading.Lock()
        """Held for one search or one small change."""
        self._vectors: VectorSearch | None = None
        self._since_build: list[tuple[list[int], Floats | None]] | None = None
        self._unsaved = 0
        self._stop = threading.Event()
        self.has_names = False
        self.mark = LogOffset(VECTOR_INDEX_VERSION, seq=-1)
        loaded_graph = nearest.load_graph(folder, VECTOR_INDEX_VERSION)
        if loaded_graph is not None:
            self._vectors, self.mark = loaded_graph

    def __len__(self) -> int:
        return len(self._vectors) if self._vectors is not None else 0

    def put(self, rows: Sequence[tuple[int, bytes]]) -> None:
        """Add or replace vectors, each as (chunk id, little-endian float32).

        If the new vectors differ in length from the existing ones, the model has changed: the existing vectors are
        dropped.
        """
        if not rows:
            return
        size = len(rows[-1][1])
        rows = [row for row in rows if len(row[1]) == size]
        ids = [chunk_id for chunk_id, _ in rows]
        data = np.frombuffer(b"".join(vector for _, vector in rows), "<f4").reshape(len(rows), size // 4)
        data = data.astype(np.float32, copy=False)
        with self._changing:
            vectors = self._fitting(size // 4)
            for i in range(0, len(ids), MAX_PUT_BATCH_VECTORS):
                with self._using:
                    vectors.put(ids[i : i + MAX_PUT_BATCH_VECTORS], data[i : i + MAX_PUT_BATCH_VECTORS])
            if isinstance(vectors, ExactVectors) and len(vectors) >= MIN_GRAPH_VECTORS:
                with self._using:
                    vectors.store_as_half()  # a graph uses vectors in half precision, so building it can reuse them
            if self._since_build is not None:
                self._since_build.append((ids, data))
            self._unsaved += len(ids)

    def _fitting(self, dimensions: int) -> VectorSearch:
        vector_search = self._vectors
        if vector_search is not None and vector_search.dimensions == dimensions:
            return vector_search
        if vector_search is not None:
            logger.warning(
                "replacing vectors of %d numbers with new vectors of %d", vector_search.dimensions, dimensions
            )
        self._since_build = None
        self._vectors = fresh = ExactVectors(dimensions)
        return fresh

    def delete(self, first: int, last: int) -> None:
        """Remove the vectors of the chunks ``first`` to ``last``."""
        with self._changing:
            removed_chunks: list[int] = []
            if self._vectors is not None:
                with self._using:
                    removed_chunks = self._vectors.delete(first, last)
            if self._since_build is not None:
                self._since_build.append((removed_chunks, None))
            self._unsaved += last - first + 1

    def commit(self, mark: LogOffset) -> None:
        """Record that all changes up to ``mark`` have been applied."""
        self.mark = mark
        if self._unsaved >= SAVE_INTERVAL_CHANGES:
            self.save()

    def clear(self) -> None:
        """Delete everything."""
        with self._changing, self._using:
            self._vectors = None
            self._since_build = None
            self._unsaved = 0
        self.mark = LogOffset(VECTOR_INDEX_VERSION, seq=-1)

    def rollback(self) -> None:
        """Do nothing, because adding the same vectors again has no effect."""

    def search(self, vector: bytes, limit: int, ranges: Ranges | None = None) -> Scored:
        """Return the ``limit`` nearest chunks as (id, cosine), best first.

        ``ranges`` limits the search to ranges of ids, ends included. Raises `Conflict` if ``vector`` differs in length
        from the stored vectors.
        """
        ndarray = np.frombuffer(vector, "<f4").astype(np.float32, copy=False)
        with self._using:
            if self._vectors is None or not len(self._vectors):
                return []
            if len(ndarray) != self._vectors.dimensions:
                raise dimensions_differ(len(ndarray), self._vectors.dimensions)
            return self._vectors.search(ndarray, limit, ranges)

    @property
    def wants_graph(self) -> bool:
        """Return whether a graph should be built: there are enough vectors and no graph, or half of the graph's
        vectors are deleted.
        """
        vectors = self._vectors
        if isinstance(vectors, nearest.HnswGraph):
            return vectors.deleted_count > max(len(vectors), 1_000)
        return vectors is not None and len(vectors) >= MIN_GRAPH_VECTORS

    def build(self) -> None:
        """Build a graph while searches and changes continue, and save it. Ends early after `stop`."""
        with self._changing:
            old = self._vectors
            if old is None:
                return
            exact = old.exact if isinstance(old, nearest.HnswGraph) else old
            assert isinstance(exact, ExactVectors)
            ids, data = exact.items()
            self._since_build = []
        graph = nearest.HnswGraph(old.dimensions, exact=exact)
        is_filled = graph.fill(ids, data, self._stop)
        with self._changing:
            missed_changes = self._changes_since_build()
            if not is_filled or missed_changes is None or self._vectors is not old:
                return  # stopped, or the vectors were dropped during the build
            for changed_chunks, vectors in missed_changes:
                if vectors is None:
                    graph.unlink(changed_chunks)
                else:
                    graph.link(changed_chunks, vectors)
            with self._using:
                self._vectors = graph
        self.save()

    def _changes_since_build(self) -> list[tuple[list[int], Floats | None]] | None:
        """Return the changes since `build` began, or ``None`` if all vectors were dropped."""
        missed_changes, self._since_build = self._since_build, None
        return missed_changes

    def save(self) -> None:
        """Save the graph, if any. If the disk is full, the graph is built again after the next start."""
        with self._changing:
            vectors, self._unsaved = self._vectors, 0
            if not isinstance(vectors, nearest.HnswGraph):
                return
            try:
                vectors.save(self._folder, self.mark)
            except (OSError, RuntimeError) as error:
                logger.warning("failed to save the vector index in %s: %s", self._folder, error)

    def stop(self) -> None:
        """Make a running `build` return early."""
        self._stop.set()

    def close(self) -> None:
        """Stop a running build, and save the changes."""
        self.stop()
        if self._unsaved:
            self.save()
