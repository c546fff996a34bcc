"""How a document would be cut, shown before anything is indexed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portico_server.core.errors import InvalidRequest
from portico_server.knowledge.chunk.chunkers import check
from portico_server.knowledge.parse.pool import Readers
from portico_server.knowledge.part import Part, Unreadable

STRATEGIES = 10
"""Strategies of one preview, at most."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The first chunks by one strategy, and how many there are; their lengths in characters."""

    strategy: Mapping[str, Any]
    chunks: Sequence[Part]
    total: int
    shortest: int
    longest: int


class Previews:
    """Reads with the workers of the stores, within the same limits."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def cut(
        self, path: Path, filename: str, strategies: Sequence[Mapping[str, Any]], *, limit: int
    ) -> list[Preview]:
        """The first ``limit`` chunks of a file by each of the checked ``strategies``.

        Raises `InvalidRequest` if the file cannot be read.
        """
        return [await self._one(path, filename, strategy, limit) for strategy in strategies]

    async def _one(self, path: Path, filename: str, strategy: Mapping[str, Any], limit: int) -> Preview:
        kept: list[Part] = []
        total = longest = 0
        shortest: int | None = None
        try:
            async with aclosing(self._readers.read(path, filename, strategy)) as runs:
                async for run in runs:
                    kept.extend(run[: limit - len(kept)])
                    total += len(run)
                    for chunk in run:
                        longest = max(longest, len(chunk.text))
                        shortest = min(len(chunk.text) if shortest is None else shortest, len(chunk.text))
        except Unreadable as error:
            raise InvalidRequest(f"{filename} {error.message}", code=error.code, param="file") from error
        return Preview(strategy, kept, total, shortest or 0, longest)


def check_strategies(value: Any) -> list[dict[str, Any]]:
    """Strategies in their full form: names, or objects as ``chunking_strategy`` takes. None given: ``auto``."""
    if value is None:
        value = ["auto"]
    if not isinstance(value, list) or not 1 <= len(value) <= STRATEGIES:
        raise InvalidRequest(f"'strategies' must be a list of 1 to {STRATEGIES}.", param="strategies")
    return [check({"type": item} if isinstance(item, str) else item) for item in value]
