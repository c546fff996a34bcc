"""Approximate nearest neighbours with hnswlib, and how the graph is kept on disk.

hnswlib is a source package that needs a C++ compiler: where it is missing, exact search stands in.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from portico_server.knowledge.index.mark import Damaged, Mark

try:
    import hnswlib
except ImportError:
    hnswlib = None

AVAILABLE: bool = hnswlib is not None

M = 16
EF_CONSTRUCTION = 200
EF = 64

SUBSET = 20_000
"""Allowed chunks up to which they are compared one by one instead of walking the graph with a filter."""

_BATCH = 256
"""Vectors added in one go; a search waits that long at most."""

_DESCRIPTION = "vectors.json"

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Scored = list[tuple[int, float]]


class Graph:
    """A small-world graph (Malkov and Yashunin, 2016) over cosines. Not safe for threads: its owner locks."""

    def __init__(self, dimensions: int, index: Any = None, ids: set[int] | None = None) -> None:
        self.dimensions = dimensions
        self._ids = ids if ids is not None else set()
        if index is None:
            index = hnswlib.Index("cosine", dimensions)
            index.init_index(1_024, M=M, ef_construction=EF_CONSTRUCTION, random_seed=1)
        self._index = index
        self._index.set_ef(EF)
        self._index.set_num_threads(max(1, (os.cpu_count() or 2) // 2))

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def dead(self) -> int:
        """Deleted vectors that the graph still walks through."""
        return int(self._index.get_current_count()) - len(self._ids)

    def items(self) -> tuple[Ids, Floats]:
        """A copy of all ids and vectors."""
        ids = sorted(self._ids)
        data = np.asarray(self._index.get_items(ids), np.float32) if ids else np.empty((0, self.dimensions))
        return np.array(ids, np.int64), data.astype(np.float32, copy=False)

    def put(self, ids: Sequence[int], data: Floats) -> None:
        needed = self._index.get_current_count() + len(ids)
        if needed > self._index.get_max_elements():
            self._index.resize_index(max(needed, self._index.get_max_elements() * 3 // 2))
        for i in range(0, len(ids), _BATCH):
            self._index.add_items(data[i : i + _BATCH], list(ids[i : i + _BATCH]))
        self._ids.update(ids)

    def delete(self, first: int, last: int) -> None:
        for chunk_id in range(first, last + 1):
            if chunk_id in self._ids:
                self._ids.discard(chunk_id)
                self._index.mark_deleted(chunk_id)

    def fill(self, ids: Ids, data: Floats, stop: threading.Event) -> bool:
        """Put many in. False if ``stop`` was set before the end."""
        self._index.resize_index(max(len(ids) * 5 // 4, 1_024))
        for i in range(0, len(ids), _BATCH):
            if stop.is_set():
                return False
            self.put(ids[i : i + _BATCH].tolist(), data[i : i + _BATCH])
        return True

    def search(self, vector: Floats, limit: int, allowed: Collection[int] | None) -> Scored:
        if allowed is not None:
            allowed = self._ids.intersection(allowed)
            if len(allowed) <= SUBSET:
                return self._among(vector, limit, sorted(allowed))
        limit = min(limit, len(self._ids) if allowed is None else len(allowed))
        if limit == 0:
            return []
        accept = None if allowed is None else allowed.__contains__
        try:
            labels, distances = self._index.knn_query(vector, k=limit, num_threads=1, filter=accept)
        except RuntimeError:
            # The walk met fewer than ``limit`` that are neither deleted nor filtered out.
            return self._among(vector, limit, sorted(self._ids if allowed is None else allowed))
        return sorted(
            ((int(i), 1 - float(d)) for i, d in zip(labels[0], distances[0], strict=True)),
            key=lambda item: (-item[1], item[0]),
        )

    def _among(self, vector: Floats, limit: int, ids: list[int]) -> Scored:
        """Exact search among ``ids``, in pieces, so that memory stays bounded."""
        found: Scored = []
        length = float(np.linalg.norm(vector)) or 1.0
        for i in range(0, len(ids), SUBSET):
            part = ids[i : i + SUBSET]
            scores = np.asarray(self._index.get_items(part), np.float32) @ vector / length
            found += [(chunk_id, float(score)) for chunk_id, score in zip(part, scores, strict=True)]
            found = sorted(found, key=lambda item: (-item[1], item[0]))[:limit]
        return found

    def save(self, folder: Path, mark: Mark) -> None:
        """Write the graph, then, in one step, the description that makes it valid."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"graph-{os.urandom(6).hex()}.bin"
        self._index.save_index(str(path))
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        description = {
            "file": path.name,
            "sha256": digest,
            "dimensions": self.dimensions,
            "mark": mark.to_json(),
        }
        dead = sorted(set(self._index.get_ids_list()) - self._ids)
        temporary = folder / (_DESCRIPTION + ".new")
        with temporary.open("w") as file_:
            json.dump({**description, "dead": dead}, file_)
            file_.flush()
            os.fsync(file_.fileno())
        temporary.replace(folder / _DESCRIPTION)
        for other in folder.glob("graph-*.bin"):
            if other != path:
                with suppress(OSError):
                    other.unlink()


def load(folder: Path, version: int) -> tuple[Graph, Mark] | None:
    """The graph kept in ``folder`` and how far it goes; ``None`` if there is none. Raises `Damaged`.

    The checksum is compared first: hnswlib follows the links in a broken file wherever they lead.
    """
    try:
        description = json.loads((folder / _DESCRIPTION).read_bytes())
        path = folder / Path(description["file"]).name
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != description["sha256"]:
            raise Damaged(f"{path.name} is not what was written")
        mark = Mark.from_json(description["mark"], version)
        index = hnswlib.Index("cosine", description["dimensions"])
        index.load_index(str(path))
        ids = set(index.get_ids_list()) - set(description["dead"])
    except FileNotFoundError as error:
        if error.filename and Path(error.filename).name == _DESCRIPTION:
            return None
        raise Damaged(str(error)) from error
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise Damaged(str(error)) from error
    return Graph(description["dimensions"], index, ids), mark
