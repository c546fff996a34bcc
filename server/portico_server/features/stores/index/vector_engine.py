"""The interface of the engines that search the vectors of a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from portico_server.core.errors import Conflict
from portico_server.features.stores.index.replay import DerivedIndex

Ranges = Sequence[tuple[int, int]]
"""Ranges of chunk ids, ends included."""

Ranking = list[tuple[int, float]]
"""Chunks as (id, score), best first."""


class LocalIndex(DerivedIndex, Protocol):
    """Vectors of one chunk group and one model in this process or its files. Several threads may search it."""

    @property
    def wants_graph(self) -> bool:
        """Return whether `build` would make searches much faster."""

    def __len__(self) -> int: ...

    def search(self, vector: bytes, limit: int, ranges: Ranges | None = None, /) -> Ranking:
        """Return the ``limit`` nearest chunks; see `VectorEngine.search`."""

    def build(self) -> None:
        """Build a graph while searches and changes continue, and save it. Ends early after `stop`."""

    def stop(self) -> None:
        """Make a running `build` return early."""


def dimensions_differ(vector_length: int, stored_length: int) -> Conflict:
    """Return the error for a vector whose length differs from that of the stored vectors."""
    return Conflict(
        f"The embedding model returns {vector_length} numbers, but the vectors of the store have {stored_length}: they "
        "were computed with another model. Create the store again.",
        code="dimensions_differ",
    )


class VectorEngine(Protocol):
    """The vectors of one chunk group and one model.

    Chunks enter an engine, and leave it, through the database: in the transaction that changes them, or by the change
    log, which `catch_up` replays.
    """

    @property
    def seq(self) -> int:
        """Number of the last change that searches can find; −1 before the engine can be searched."""

    @property
    def has_vectors(self) -> bool:
        """Return whether the engine has vectors to search."""

    @property
    def index(self) -> LocalIndex | None:
        """The index in this process that `search` uses; ``None`` if there is none."""

    async def catch_up(self) -> None:
        """Make all committed changes searchable, and rebuild a missing or damaged index. Raises `Unavailable`."""

    async def search(self, vector: bytes, limit: int, ranges: Ranges | None) -> Ranking:
        """Return the ``limit`` nearest chunks with their cosines.

        ``ranges`` limits the search to these chunks, which the engine applies before it counts ``limit``. Raises
        `Conflict` if ``vector`` differs in length from the stored vectors.
        """

    def stop(self) -> None:
        """Make a running `catch_up` return early."""

    async def close(self) -> None:
        """Finish running work, save the index, and close its files."""
