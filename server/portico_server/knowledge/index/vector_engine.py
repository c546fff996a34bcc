"""The interface of the engines that search the vectors of a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from portico_server.knowledge.index.vector import VectorIndex

Ranges = Sequence[tuple[int, int]]
"""Ranges of chunk ids, ends included."""

Ranking = list[tuple[int, float]]
"""Chunks as (id, score), best first."""


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
    def index(self) -> VectorIndex | None:
        """The index in this process's memory that `search` uses; ``None`` if there is none."""

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
