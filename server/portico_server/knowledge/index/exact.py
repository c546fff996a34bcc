"""Exact nearest neighbours in NumPy: right, and fast enough for tens of thousands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.uint16]
"""The upper halves of float32 numbers (bfloat16): NumPy widens them ten times faster than its float16."""

Ids = npt.NDArray[np.int64]
Ranges = Sequence[tuple[int, int]]
Scored = list[tuple[int, float]]

_BLOCK = 8_192
"""Half-precision vectors widened at a time."""


class Exact:
    """Vectors of unit length in rows; scores are cosines. ``half`` takes half the memory and more time."""

    def __init__(self, dimensions: int, *, half: bool = False) -> None:
        self.dimensions = dimensions
        self._matrix: Floats | Halves = (
            np.empty((0, dimensions), np.uint16) if half else np.empty((0, dimensions), np.float32)
        )
        self._ids: Ids = np.empty(0, np.int64)
        self._rows: dict[int, int] = {}
        self._used = 0

    @classmethod
    def of(cls, ids: Ids, matrix: Floats | Halves) -> Exact:
        """Vectors that are there already, kept as they are; ``matrix`` has shape (len(ids), dimensions)."""
        exact = cls(matrix.shape[1])
        exact._ids, exact._matrix, exact._used = ids, matrix, len(ids)
        exact._rows = {chunk: row for row, chunk in enumerate(ids.tolist())}
        return exact

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def is_half(self) -> bool:
        """Whether the numbers are kept in half the size."""
        return bool(self._matrix.dtype == np.uint16)

    def halve(self) -> None:
        """Keep the numbers in half the size from now on."""
        if not self.is_half:
            halves = np.empty(self._matrix.shape, np.uint16)
            for i in range(0, self._used, _BLOCK):
                end = min(i + _BLOCK, self._used)
                halves[i:end] = narrow(widen(self._matrix[i:end]))
            self._matrix = halves

    def put(self, ids: Sequence[int], data: Floats) -> None:
        """Add or replace; ``data`` has shape (len(ids), dimensions)."""
        self._reserve(self._used + len(ids))
        fitting = narrow(data) if self._matrix.dtype == np.uint16 else data
        for chunk, vector in zip(ids, fitting, strict=True):
            row = self._rows.get(chunk)
            if row is None:
                row = self._rows[chunk] = self._used
                self._used += 1
            self._matrix[row] = vector
            self._ids[row] = chunk

    def delete(self, first: int, last: int) -> list[int]:
        """Remove the chunks ``first`` to ``last``; those that were there."""
        gone = []
        for chunk in range(first, last + 1):
            row = self._rows.pop(chunk, None)
            if row is not None:
                self._ids[row] = -1
                gone.append(chunk)
        if self._used > 1_000 and len(self._rows) < self._used * 3 // 4:
            self._ids, self._matrix = self.items()
            self._used = len(self._ids)
            self._rows = {chunk: row for row, chunk in enumerate(self._ids.tolist())}
        return gone

    def search(self, vector: Floats, limit: int, allowed: Ranges | None = None) -> Scored:
        """The ``limit`` nearest as (id, cosine), best first; among the ids of ``allowed`` only, if given."""
        ids = self._ids[: self._used]
        matrix = self._matrix[: self._used]
        if allowed is not None:
            rows = np.flatnonzero(np.isin(ids, expand(allowed)))
        elif len(self._rows) < self._used:
            rows = np.flatnonzero(ids >= 0)
        else:
            return best(ids, _cosines(matrix, vector), limit)
        return best(ids[rows], _cosines(matrix[rows], vector), limit)

    def items(self) -> tuple[Ids, Floats | Halves]:
        """A copy of all ids, and the vectors: those that are replaced later may show in them."""
        if len(self._rows) == self._used:
            return self._ids[: self._used].copy(), self._matrix[: self._used]
        rows = np.flatnonzero(self._ids[: self._used] >= 0)
        return self._ids[rows], self._matrix[rows]

    def _reserve(self, rows: int) -> None:
        if rows <= len(self._ids):
            return
        size = max(rows, len(self._ids) * 3 // 2, 256)
        matrix = np.empty((size, self.dimensions), self._matrix.dtype)
        matrix[: self._used] = self._matrix[: self._used]
        ids = np.full(size, -1, np.int64)
        ids[: self._used] = self._ids[: self._used]
        self._matrix, self._ids = matrix, ids


def expand(ranges: Ranges) -> Ids:
    """The ids in some runs."""
    return np.concatenate([np.arange(first, last + 1) for first, last in ranges] or [np.empty(0, np.int64)])


def best(ids: Ids, scores: Floats, limit: int) -> Scored:
    """The ``limit`` highest scores with their ids, best first, equal scores by id."""
    if len(scores) > limit:
        top = np.argpartition(scores, -limit)[-limit:]
        ids, scores = ids[top], scores[top]
    order = np.lexsort((ids, -scores))
    return [(int(ids[i]), float(scores[i])) for i in order]


def narrow(data: Floats) -> Halves:
    """The nearest numbers of half the size."""
    bits = np.ascontiguousarray(data).view(np.uint32)
    return ((bits + np.uint32(0x8000)) >> np.uint32(16)).astype(np.uint16)


def widen(data: Floats | Halves) -> Floats:
    """Numbers of either size as float32."""
    if data.dtype == np.uint16:
        bits = data.astype(np.uint32)
        bits <<= np.uint32(16)
        return bits.view(np.float32)
    return data.astype(np.float32, copy=False)


def _cosines(matrix: Floats | Halves, vector: Floats) -> Floats:
    if matrix.dtype == np.float32:
        product: Floats = matrix @ vector
        return product
    scores = np.empty(len(matrix), np.float32)
    for i in range(0, len(matrix), _BLOCK):
        scores[i : i + _BLOCK] = widen(matrix[i : i + _BLOCK]) @ vector
    return scores
