"""Approximate nearest neighbours with hnswlib, and how the graph is kept on disk.

hnswlib is a source package that needs a C++ compiler: where it is missing, exact search stands in.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from portico_server.knowledge.index.exact import Exact, Floats, Halves, Ids, Ranges, Scored, expand, widen
from portico_server.knowledge.index.mark import Damaged, Mark

try:
    import hnswlib
except ImportError:
    hnswlib = None

AVAILABLE: bool = hnswlib is not None

M = 16
EF_CONSTRUCTION = 200
EF = 192
"""How many neighbours a walk keeps in view. Of the nearest ten among a million vectors of 256 numbers 64 found 94 %,
192 find 99 %, in 0.22 and 0.34 ms.
"""

_BATCH = 64
"""Vectors added in one go."""

_DESCRIPTION = "graph.json"


class Graph:
    """A small-world graph (Malkov and Yashunin, 2016) over cosines; ``exact``: the vectors in half precision beside.

    The graph answers questions about everything; what is asked about a part (a filter) is compared one by
    one, since a walk through a graph of which most is forbidden loses its way. Not safe for threads: its
    owner locks.
    """

    def __init__(self, dimensions: int, index: Any = None, exact: Exact | None = None) -> None:
        self.dimensions = dimensions
        self.exact = exact if exact is not None else Exact(dimensions, half=True)
        if index is None:
            index = hnswlib.Index("cosine", dimensions)
            index.init_index(1_024, M=M, ef_construction=EF_CONSTRUCTION, random_seed=1)
        self._index = index
        self._index.set_num_threads(max(1, (os.cpu_count() or 2) // 2))

    def __len__(self) -> int:
        return len(self.exact)

    @property
    def dead(self) -> int:
        """Deleted vectors that the graph still walks through."""
        return int(self._index.get_current_count()) - len(self)

    def items(self) -> tuple[Ids, Floats | Halves]:
        """All ids and vectors."""
        return self.exact.items()

    def put(self, ids: Sequence[int], data: Floats) -> None:
        """Add or replace; ``data`` has shape (len(ids), dimensions)."""
        self.link(ids, data)
        self.exact.put(ids, data)

    def delete(self, first: int, last: int) -> list[int]:
        """Remove the chunks ``first`` to ``last``; those that were there."""
        gone = self.exact.delete(first, last)
        self.unlink(gone)
        return gone

    def link(self, ids: Sequence[int], data: Floats) -> None:
        """Put into the graph what ``exact`` has, or will have."""
        needed = self._index.get_current_count() + len(ids)
        if needed > self._index.get_max_elements():
            self._index.resize_index(max(needed, self._index.get_max_elements() * 3 // 2))
        for i in range(0, len(ids), _BATCH):
            self._index.add_items(data[i : i + _BATCH], list(ids[i : i + _BATCH]))

    def unlink(self, ids: Sequence[int]) -> None:
        """Take out of the graph what ``exact`` no longer has; what it never linked is no matter."""
        for chunk in ids:
            with suppress(RuntimeError):
                self._index.mark_deleted(chunk)

    def fill(self, ids: Ids, data: Floats | Halves, stop: threading.Event) -> bool:
        """Link many. False if ``stop`` was set before the end."""
        self._index.resize_index(max(len(ids) * 21 // 20, 1_024))
        for i in range(0, len(ids), _BATCH):
            if stop.is_set():
                return False
            self.link(ids[i : i + _BATCH].tolist(), widen(data[i : i + _BATCH]))
        return True

    def search(self, vector: Floats, limit: int, allowed: Ranges | None = None) -> Scored:
        """The nearest as (id, cosine), best first; among the ids of ``allowed`` only, if given."""
        if allowed is None:
            return self._walk(vector, limit)
        chunks = expand(allowed)
        if 2 * len(chunks) > len(self):
            # Most is allowed: of four times as many, enough remain.
            wanted = set(chunks.tolist())
            found = [item for item in self._walk(vector, 4 * limit) if item[0] in wanted][:limit]
            if len(found) == limit:
                return found
        return self.exact.search(vector, limit, allowed)

    def _walk(self, vector: Floats, limit: int) -> Scored:
        limit = min(limit, len(self))
        if limit == 0:
            return []
        self._index.set_ef(max(EF, limit))
        try:
            labels, distances = self._index.knn_query(vector, k=limit, num_threads=1)
        except RuntimeError:
            # The walk met fewer than ``limit`` that have not been deleted.
            return self.exact.search(vector, limit)
        found = ((int(i), 1 - float(d)) for i, d in zip(labels[0], distances[0], strict=True))
        return sorted(found, key=lambda item: (-item[1], item[0]))

    def save(self, folder: Path, mark: Mark) -> None:
        """Write the graph and the vectors, then, in one step, the description that makes them valid."""
        folder.mkdir(parents=True, exist_ok=True)
        name = f"graph-{os.urandom(6).hex()}"
        paths = {kind: folder / f"{name}.{kind}" for kind in ("bin", "ids", "vectors")}
        ids, vectors = self.items()
        self._index.save_index(str(paths["bin"]))
        for kind, values in (("ids", ids), ("vectors", vectors)):
            with paths[kind].open("wb") as file:
                np.save(file, values, allow_pickle=False)
        description = {
            "name": name,
            "dimensions": self.dimensions,
            "sha256": {kind: _digest(path) for kind, path in paths.items()},
            "mark": mark.to_json(),
        }
        temporary = folder / f"{name}.json"
        with temporary.open("w") as text:
            json.dump(description, text)
            text.flush()
            os.fsync(text.fileno())
        temporary.replace(folder / _DESCRIPTION)
        for other in folder.glob("graph-*"):
            if other not in paths.values():
                with suppress(OSError):
                    other.unlink()


def load(folder: Path, version: int) -> tuple[Graph, Mark] | None:
    """The graph kept in ``folder`` and how far it goes; ``None`` if there is none. Raises `Damaged`.

    The checksums are compared first: hnswlib follows the links in a broken file wherever they lead.
    """
    try:
        description = json.loads((folder / _DESCRIPTION).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Damaged(f"{_DESCRIPTION} cannot be read ({error})") from error
    try:
        paths = {kind: folder / f"{Path(description['name']).name}.{kind}" for kind in description["sha256"]}
        for kind, digest in description["sha256"].items():
            if _digest(paths[kind]) != digest:
                raise Damaged(f"{paths[kind].name} is not what was written")
        mark = Mark.from_json(description["mark"], version)
        exact = Exact.of(
            np.load(paths["ids"], allow_pickle=False), np.load(paths["vectors"], allow_pickle=False)
        )
        index = hnswlib.Index("cosine", description["dimensions"])
        index.load_index(str(paths["bin"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise Damaged(str(error)) from error
    return Graph(description["dimensions"], index, exact), mark


def _digest(path: Path) -> str:
    """The SHA-256 of what is on the disk, in hexadecimal."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
