"""The vectors of a store in Qdrant Edge, Qdrant's engine in this process. Vectors and graph are in mapped files.

All methods block, so call them in a worker thread. Several threads may call them concurrently. Calls of Qdrant Edge
keep Python's lock, so a child process builds the graph.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import threading
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Final

import qdrant_edge as qdrant

from portico_server.core.errors import Unavailable
from portico_server.features.stores.index.offset import DamagedIndex, LogOffset
from portico_server.features.stores.index.vector_engine import Ranges, Ranking, dimensions_differ
from portico_server.subprocesses import run_module

logger = logging.getLogger(__name__)

QDRANT_INDEX_VERSION: Final = 1

MIN_GRAPH_VECTORS: Final = 20_000
"""Minimum number of vectors outside the graph for which another build pays off."""

SAVE_INTERVAL_CHANGES: Final = 5_000
"""Number of changes after which the files are flushed. Changes that were not flushed are read from SQL at the next
start.
"""

MAX_PUT_BATCH_VECTORS: Final = 64
"""Maximum number of vectors added in one call, which keeps all other threads waiting."""

GRAPH_NEIGHBOURS: Final = 16
BUILD_NEIGHBOURS: Final = 64
SEARCH_NEIGHBOURS: Final = 512

MAX_SEGMENTS: Final = 4
"""Number of segments above which a build merges the smallest."""

MAX_EXACT_KB: Final = 10_000
"""Size of vectors, as float32 numbers in KB, up to which Qdrant compares all vectors one by one."""

_DESCRIPTION: Final = "description.json"

_Change = Callable[[qdrant.EdgeShard], None]


class QdrantIndex:
    """The vectors of one store and one embedding model.

    ``folder`` contains one shard of Qdrant, and a description that names it, its log offset and the length of its
    vectors. The shard may contain later changes too, which are then applied twice.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changing = threading.Lock()
        """Held by code that changes, copies or saves the vectors; acquired before ``_using``."""
        self._using = threading.Lock()
        """Held for one search, and while another shard takes the place of the present one."""
        self._shard: qdrant.EdgeShard | None = None
        self._path = folder
        self._dimensions = 0
        self._since_build: list[_Change] | None = None
        self._deleted_since_build = 0
        self._unsaved = 0
        self._stop = threading.Event()
        self._builder: subprocess.Popen[bytes] | None = None
        self.has_names = False
        self.mark = LogOffset(QDRANT_INDEX_VERSION, seq=-1)
        self._load()

    def _load(self) -> None:
        """Open the shard that the description names, and delete the remains of interrupted work."""
        with suppress(FileNotFoundError):
            try:
                description = json.loads((self._folder / _DESCRIPTION).read_bytes())
                self._path = self._folder / description["shard"]
                self._dimensions = int(description["dimensions"])
                mark = LogOffset.from_json(description["mark"], QDRANT_INDEX_VERSION)
            except (ValueError, KeyError, TypeError) as error:
                raise DamagedIndex(f"its description is unreadable ({error})") from error
            self._shard = _open(self._path)
            self.mark = mark
        for path in self._folder.glob("shard-*"):
            if self._shard is None or path != self._path:
                shutil.rmtree(path, ignore_errors=True)

    def __len__(self) -> int:
        with self._using:
            return 0 if self._shard is None else int(self._shard.info().points_count)

    def put(self, rows: Sequence[tuple[int, bytes]]) -> None:
        """Add or replace vectors, each as (chunk id, little-endian float32).

        If the new vectors differ in length from the existing ones, the model has changed: the existing vectors are
        dropped.
        """
        if not rows:
            return
        size = len(rows[-1][1])
        vectors = [row for row in rows if len(row[1]) == size]
        with self._changing:
            if self._shard is None or self._dimensions != size // 4:
                self._begin(size // 4)
            self._change(lambda shard: _upsert(shard, vectors), len(vectors))

    def delete(self, first: int, last: int) -> None:
        """Remove the vectors of the chunks ``first`` to ``last``."""
        ids = list(range(first, last + 1))
        with self._changing:
            if self._shard is not None:
                self._deleted_since_build += len(ids)
                self._change(
                    lambda shard: shard.update(qdrant.UpdateOperation.delete_points(list(ids))), len(ids)
                )

    def _change(self, change: _Change, count: int) -> None:
        assert self._shard is not None
        try:
            change(self._shard)
        except Exception as error:  # Qdrant raises nothing narrower
            raise DamagedIndex(f"Qdrant failed: {error}") from error
        if self._since_build is not None:
            self._since_build.append(change)
        self._unsaved += count

    def _begin(self, dimensions: int) -> None:
        """Replace the shard with an empty one for vectors of another length."""
        self._drop()
        self._path = _new_path(self._folder)
        self._path.mkdir(parents=True)
        self._dimensions = dimensions
        try:
            self._shard = qdrant.EdgeShard.create(str(self._path), _configuration(dimensions))
        except Exception as error:
            raise DamagedIndex(f"Qdrant failed: {error}") from error

    def _drop(self) -> None:
        with self._using:
            shard, self._shard = self._shard, None
        self._since_build = None
        self._deleted_since_build = self._unsaved = 0
        if shard is not None:
            shard.close()
        (self._folder / _DESCRIPTION).unlink(missing_ok=True)
        for path in self._folder.glob("shard-*"):
            shutil.rmtree(path, ignore_errors=True)

    def commit(self, mark: LogOffset) -> None:
        """Record that all changes up to ``mark`` have been applied."""
        self.mark = mark
        if self._unsaved >= SAVE_INTERVAL_CHANGES:
            with self._changing:
                self._save()

    def clear(self) -> None:
        """Delete everything."""
        with self._changing:
            self._drop()
        self.mark = LogOffset(QDRANT_INDEX_VERSION, seq=-1)

    def rollback(self) -> None:
        """Do nothing, because adding the same vectors again has no effect."""

    def search(self, vector: bytes, limit: int, ranges: Ranges | None = None) -> Ranking:
        """Return the ``limit`` nearest chunks as (id, cosine), best first.

        ``ranges`` limits the search to ranges of ids, ends included. Raises `Conflict` if ``vector`` differs in length
        from the stored vectors.
        """
        numbers = _floats(vector)
        permitted, params = None, qdrant.SearchParams(hnsw_ef=max(limit, SEARCH_NEIGHBOURS))
        if ranges is not None:
            ids = chain.from_iterable(range(first, last + 1) for first, last in ranges)
            permitted = qdrant.Filter(must=[qdrant.HasIdCondition(set(ids))])
            # A graph of which a filter permits a tenth is no longer connected, and the ids take more time than
            # their vectors.
            params = qdrant.SearchParams(exact=True)
        request = qdrant.SearchRequest(
            qdrant.Query.Nearest(numbers), limit=limit, filter=permitted, params=params
        )
        with self._using:
            if self._shard is None:
                return []
            if len(numbers) != self._dimensions:
                raise dimensions_differ(len(numbers), self._dimensions)
            try:
                points = self._shard.search(request)
            except Exception as error:
                raise Unavailable(
                    f"Qdrant cannot search the index in {self._folder}: {error}. Rebuild it with 'portico stores "
                    "reindex'.",
                    code="index_failed",
                ) from error
        return sorted(((int(point.id), point.score) for point in points), key=lambda hit: (-hit[1], hit[0]))

    @property
    def wants_graph(self) -> bool:
        """Return whether a graph should be built: there are enough vectors outside the graph, or many vectors of the
        graph are deleted.
        """
        with self._using:
            if self._shard is None:
                return False
            info = self._shard.info()
        count = int(info.points_count)
        unlinked = count - int(info.indexed_vectors_count)
        return unlinked >= MIN_GRAPH_VECTORS or self._deleted_since_build > max(count, 1_000)

    def build(self) -> None:
        """Build a graph in a copy of the shard, which then takes its place. Ends early after `stop`."""
        with self._changing:
            if self._shard is None or self._stop.is_set():
                return
            self._shard.flush()
            copy = _new_path(self._folder)
            shutil.copytree(self._path, copy)
            self._since_build = []
            self._deleted_since_build = 0
        is_complete = self._optimize(copy)
        with self._changing:
            missed_changes, self._since_build = self._since_build, None
            if (
                not is_complete or missed_changes is None
            ):  # stopped, or the vectors were dropped during the build
                shutil.rmtree(copy, ignore_errors=True)
                return
            shard = _open(copy)
            for change in missed_changes:
                change(shard)
            with self._using:
                old_shard, self._shard = self._shard, shard
            old_path, self._path = self._path, copy
            self._save()
            if old_shard is not None:
                old_shard.close()
            shutil.rmtree(old_path, ignore_errors=True)

    def _optimize(self, path: Path) -> bool:
        """Build the graph of the shard at ``path`` in a child process. Return whether it is complete."""
        command = run_module("portico_server.features.stores.index.qdrant_graph", str(path))
        try:
            with subprocess.Popen(command, stdin=subprocess.DEVNULL) as child:
                self._builder = child
                if self._stop.is_set():
                    child.kill()
                status = child.wait()
        except OSError as error:
            logger.warning("failed to start a process that builds a graph: %s", error)
            return False
        finally:
            self._builder = None
        if status and not self._stop.is_set():
            logger.warning("failed to build a graph in %s: exit status %d", path, status)
        return status == 0

    def _save(self) -> None:
        """Flush the shard, then atomically write the description that makes it valid."""
        self._unsaved = 0
        if self._shard is None:
            return
        description = {
            "shard": self._path.name,
            "dimensions": self._dimensions,
            "mark": self.mark.to_json(),
        }
        try:
            self._shard.flush()
            temporary = self._folder / f"{_DESCRIPTION}.new"
            with temporary.open("w") as text:
                json.dump(description, text)
                text.flush()
                os.fsync(text.fileno())
            temporary.replace(self._folder / _DESCRIPTION)
        except Exception as error:
            raise DamagedIndex(f"its files cannot be written: {error}") from error

    def stop(self) -> None:
        """Make a running `build` return early."""
        self._stop.set()
        builder = self._builder
        if builder is not None:
            builder.kill()

    def close(self) -> None:
        """Stop a running build, save the changes, and close the files."""
        self.stop()
        with self._changing:
            if self._unsaved:
                try:
                    self._save()
                except DamagedIndex as error:
                    logger.warning("failed to save the vector index: %s", error)
            with self._using:
                shard, self._shard = self._shard, None
            if shard is not None:
                shard.close()


def _configuration(dimensions: int) -> qdrant.EdgeConfig:
    """Return a configuration whose vectors have 16 bits a number, and whose files stay on disk until they are read."""
    return qdrant.EdgeConfig(
        vectors=qdrant.EdgeVectorParams(
            dimensions,
            qdrant.Distance.Cosine,
            datatype=qdrant.VectorStorageDatatype.Float16,
            memory=qdrant.Memory.Cold,
        ),
        hnsw_config=qdrant.HnswIndexConfig(
            GRAPH_NEIGHBOURS, BUILD_NEIGHBOURS, MAX_EXACT_KB, memory=qdrant.Memory.Cold
        ),
        optimizers=qdrant.EdgeOptimizersConfig(default_segment_number=MAX_SEGMENTS, indexing_threshold=1),
        max_search_threads=1,
        wal_enabled=False,  # the change log of the store does the same
    )


def _open(path: Path) -> qdrant.EdgeShard:
    try:
        return qdrant.EdgeShard.load(str(path))
    except Exception as error:
        raise DamagedIndex(f"Qdrant cannot open it: {error}") from error


def _upsert(shard: qdrant.EdgeShard, rows: Sequence[tuple[int, bytes]]) -> None:
    for i in range(0, len(rows), MAX_PUT_BATCH_VECTORS):
        batch = [
            qdrant.Point(chunk_id, _floats(data)) for chunk_id, data in rows[i : i + MAX_PUT_BATCH_VECTORS]
        ]
        shard.update(qdrant.UpdateOperation.upsert_points(batch))


def _new_path(folder: Path) -> Path:
    return folder / f"shard-{os.urandom(6).hex()}"


def _floats(data: bytes) -> list[float]:
    numbers = array("f")
    numbers.frombytes(data)
    return numbers.tolist()
