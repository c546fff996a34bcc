"""What several readers have read, gathered for one writer: small files share a transaction, long ones come in runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from portico_server.db.chunks import NewChunk
from portico_server.db.stores import StoreFileRow

CHUNKS = 2_000
"""Chunks that are embedded and written in one transaction: about 2 MB of text and 2 MB of vectors.

A file of up to so many chunks appears in searches all at once. A longer one appears piece by piece: one transaction for
a text of 200 MB would hold 200,000 chunks in memory and keep every other writer waiting for minutes.
"""

FILES = 128
"""Files in one transaction: a commit costs some fsyncs, however much it brings."""

LINGER = 0.15
"""Seconds for which a file that has been read waits at most for others to be written with."""


@dataclass(slots=True)
class Read:
    """A run of a file's chunks, the ``last`` one or not; or the sentence that says why it could not be read."""

    row: StoreFileRow
    began: float
    chunks: list[NewChunk] = field(default_factory=list)
    first: bool = True
    last: bool = True
    used: int = 0
    """Bytes of text up to the end of this run."""
    code: str = ""
    message: str | None = None
    keep: bool = False
    """Whether what is there of a file that failed is to be gone on from."""


class Gathering:
    """A queue that is bounded in chunks, from which one writer takes as much as a transaction should hold."""

    def __init__(self) -> None:
        self._items: list[Read] = []
        self._chunks = 0
        self._ended = False
        self._some = asyncio.Event()
        self._enough = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def put(self, item: Read) -> None:
        """Hand over what was read; waits while there is more than one transaction's worth."""
        await self._room.wait()
        self._items.append(item)
        self._chunks += len(item.chunks)
        self._some.set()
        if self._chunks >= CHUNKS or len(self._items) >= FILES:
            self._enough.set()
            self._room.clear()

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._some.set()
        self._enough.set()

    async def take(self) -> list[Read]:
        """What is there, in order: as soon as it is enough, or has waited `LINGER`; empty after the end."""
        await self._some.wait()
        try:
            async with asyncio.timeout(LINGER):
                await self._enough.wait()
        except TimeoutError:
            pass  # what there is will do
        found, self._items, self._chunks = self._items, [], 0
        self._room.set()
        if not self._ended:
            self._some.clear()
            self._enough.clear()
        return found
