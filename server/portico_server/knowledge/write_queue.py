"""What several readers have read, gathered for one writer: small files share a transaction, long ones come in
runs.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Sequence,
)
from dataclasses import field
from typing import TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.db.chunks import NewChunk
from portico_server.db.stores import StoreFileRow

MAX_BATCH_CHUNKS = 2_000
"""Chunks that are embedded and written in one transaction: about 2 MB of text and 2 MB of vectors.

A file of up to so many chunks appears in searches all at once. A longer one appears piece by piece: one transaction for
a text of 200 MB would hold 200,000 chunks in memory and keep every other writer waiting for minutes.
"""

MAX_BATCH_FILES = 128
"""Files in one transaction: a commit costs some fsyncs, however much it brings."""

LINGER_S = 0.15
"""Seconds for which a file that has been read waits at most for others to be written with."""


@dataclass(slots=True)
class ReadChunks:
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
    """Whether the next attempt continues from what is there of a file that failed."""


MAX_WAITING_FILES = 1_000
"""Files that are looked at together for those that are to be read next."""

MAX_TURN_S = 5.0
"""Seconds after which a run that indexes a store begins no further file while another one waits for the store."""

LOOK_INTERVAL_S = 1.0
"""Seconds after which it is looked for files that have come meanwhile …"""

MAX_LOOK_SHARE = 0.05
"""… and the part of the time that this takes at most."""

WaitingFiles: TypeAlias = Callable[[], Awaitable[Sequence[StoreFileRow]]]
"""Up to `MAX_WAITING_FILES` files that wait, `stores.in_turns`."""


class FileFeed:
    """Files that wait to be read, by whose they are, in rounds: what comes while others are read is among them, but
    for a file that is to be cut otherwise, which comes with the next round.
    """

    def __init__(
        self, waiting_files: WaitingFiles, is_over: Callable[[bool], bool] = lambda _is_mirrored: False
    ) -> None:
        self._waiting = waiting_files
        self._is_over = is_over
        self.left = 0
        """Files that were left for another run."""
        self._seen: set[tuple[str, str]] = set()
        self._in_round: set[str] = set()
        self._queues: dict[str, deque[StoreFileRow]] = {}
        self._next_look = 0.0

    async def begin(self) -> Sequence[StoreFileRow]:
        """Begin a round once what was taken is written. What waits, which may be nothing."""
        self._in_round.clear()
        return await self.look()

    async def look(self) -> Sequence[StoreFileRow]:
        """What has come since the last time. It is looked for where nothing is left, and now and then too."""
        began = time.monotonic()
        if self.left or (self._queues and began < self._next_look):
            return ()
        file_rows = await self._waiting()
        took = time.monotonic() - began
        self._next_look = began + max(LOOK_INTERVAL_S, took / MAX_LOOK_SHARE)
        fresh = [
            row
            for row in file_rows
            if row.file_id not in self._in_round and (row.file_id, str(row.chunking)) not in self._seen
        ]
        for row in fresh:
            self._seen.add((row.file_id, str(row.chunking)))
            self._in_round.add(row.file_id)
            self._queues.setdefault(row.whose or "", deque()).append(row)
        return fresh

    def take(self, reading: Collection[StoreFileRow], limit: int) -> Sequence[StoreFileRow]:
        """The files to be read next, so that ``limit`` of everybody are: some are being read. None if it is over, which
        is asked with whether any mirrored file still waits or is read.
        """
        waiting = (row for queue in self._queues.values() for row in queue)
        if self._is_over(any(row.mirrored for row in (*reading, *waiting))):
            self.left += sum(map(len, self._queues.values()))
            self._queues.clear()
        counts = Counter(row.whose or "" for row in reading)
        file_rows = [
            queue.popleft()
            for owner, queue in self._queues.items()
            for _ in range(min(len(queue), limit - counts.get(owner, 0)))
        ]
        self._queues = {owner: queue for owner, queue in self._queues.items() if queue}
        return file_rows


class WriteQueue:
    """A queue that is bounded in chunks, from which one writer takes as much as a transaction should hold."""

    def __init__(self) -> None:
        self._items: list[ReadChunks] = []
        self._chunks = 0
        self._ended = False
        self._some = asyncio.Event()
        self._enough = asyncio.Event()
        self._has_space = asyncio.Event()
        self._has_space.set()

    async def put(self, item: ReadChunks) -> None:
        """Hand over what was read; waits while there is more than one transaction's worth."""
        await self._has_space.wait()
        self._items.append(item)
        self._chunks += len(item.chunks)
        self._some.set()
        if self._chunks >= MAX_BATCH_CHUNKS or len(self._items) >= MAX_BATCH_FILES:
            self._enough.set()
            self._has_space.clear()

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._some.set()
        self._enough.set()

    async def take(self) -> list[ReadChunks]:
        """What is there, in order: as soon as it is enough, or has waited `LINGER_S`; empty after the end."""
        await self._some.wait()
        try:
            async with asyncio.timeout(LINGER_S):
                await self._enough.wait()
        except TimeoutError:
            pass  # what there is will do
        chunks, self._items, self._chunks = self._items, [], 0
        self._has_space.set()
        if not self._ended:
            self._some.clear()
            self._enough.clear()
        return chunks
