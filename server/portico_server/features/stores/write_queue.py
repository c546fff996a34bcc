"""Collects the output of several readers for one writer. Small files share a transaction, and long files are split."""

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
"""Maximum number of chunks embedded and written in one transaction: about 2 MB of text and 2 MB of vectors.

Searches find a file with up to this many chunks as a whole, and a longer file in parts. If a text of 200 MB were
written in one transaction, 200,000 chunks would be in memory, and all other writers would wait for minutes.
"""

MAX_BATCH_FILES = 128
"""Maximum number of files in a transaction. A commit needs several fsyncs regardless of its size, so files share
one.
"""

LINGER_S = 0.15
"""Maximum time that a finished file waits for other files to share its transaction, in seconds."""


@dataclass(slots=True)
class ReadChunks:
    """A range of a file's chunks, which may be the ``last`` of the file, or the message that explains why the file
    could not be read.
    """

    row: StoreFileRow
    began: float
    chunks: list[NewChunk] = field(default_factory=list)
    first: bool = True
    last: bool = True
    used: int = 0
    """Number of bytes of text up to the end of this range."""
    code: str = ""
    message: str | None = None
    keep: bool = False
    """True if a failed file keeps its chunks, so that the next attempt continues after them."""


MAX_WAITING_FILES = 1_000
"""Number of waiting files from which the next files to read are chosen."""

MAX_TURN_S = 5.0
"""Seconds after which an indexing run starts no further file if another run waits for the store."""

LOOK_INTERVAL_S = 1.0
"""Minimum interval between two checks for new files, in seconds."""

MAX_LOOK_SHARE = 0.05
"""Maximum share of the time that is spent on checking for new files."""

WaitingFiles: TypeAlias = Callable[[], Awaitable[Sequence[StoreFileRow]]]
"""A function that returns up to `MAX_WAITING_FILES` waiting files, ordered as by `stores.in_turns`."""


class FileFeed:
    """Files that wait to be read, by owner, in rounds.

    A round also includes files that arrive while others are read. Only a file that is in the round already, and must
    be chunked differently, waits for the next round.
    """

    def __init__(
        self, waiting_files: WaitingFiles, is_over: Callable[[bool], bool] = lambda _is_mirrored: False
    ) -> None:
        self._find_waiting = waiting_files
        self._is_over = is_over
        self.left = 0
        """Number of files that are left for another run."""
        self._seen_files: set[tuple[str, str]] = set()
        self._in_round: set[str] = set()
        self._queues: dict[str, deque[StoreFileRow]] = {}
        self._next_look = 0.0

    async def begin(self) -> Sequence[StoreFileRow]:
        """Begin a round after the previous files have been written. Return the waiting files, if any."""
        self._in_round.clear()
        return await self.look()

    async def look(self) -> Sequence[StoreFileRow]:
        """Return the files that have arrived since the last call. Checks only if no files remain, and otherwise at
        intervals.
        """
        began = time.monotonic()
        if self.left or (self._queues and began < self._next_look):
            return ()
        file_rows = await self._find_waiting()
        took = time.monotonic() - began
        self._next_look = began + max(LOOK_INTERVAL_S, took / MAX_LOOK_SHARE)
        fresh = [
            row
            for row in file_rows
            if row.file_id not in self._in_round and (row.file_id, str(row.chunking)) not in self._seen_files
        ]
        for row in fresh:
            self._seen_files.add((row.file_id, str(row.chunking)))
            self._in_round.add(row.file_id)
            self._queues.setdefault(row.whose or "", deque()).append(row)
        return fresh

    def take(self, reading: Collection[StoreFileRow], limit: int) -> Sequence[StoreFileRow]:
        """Return the next files to read, so that up to ``limit`` files of each owner are being read at the same time.

        Returns no files once ``is_over`` returns true. ``is_over`` receives whether a mirrored file is waiting or
        being read.
        """
        waiting_rows = (row for queue in self._queues.values() for row in queue)
        if self._is_over(any(row.mirrored for row in (*reading, *waiting_rows))):
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
    """A queue with a maximum number of chunks. One writer takes batches that each fit into a transaction."""

    def __init__(self) -> None:
        self._items: list[ReadChunks] = []
        self._chunks = 0
        self._has_ended = False
        self._has_work = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_space = asyncio.Event()
        self._has_space.set()

    async def put(self, item: ReadChunks) -> None:
        """Add chunks. Waits while the queue contains more chunks than fit into one transaction."""
        await self._has_space.wait()
        self._items.append(item)
        self._chunks += len(item.chunks)
        self._has_work.set()
        if self._chunks >= MAX_BATCH_CHUNKS or len(self._items) >= MAX_BATCH_FILES:
            self._has_room.set()
            self._has_space.clear()

    def end(self) -> None:
        """Mark the end of the input."""
        self._has_ended = True
        self._has_work.set()
        self._has_room.set()

    async def take(self) -> list[ReadChunks]:
        """Return the queued items in order, once they fill a transaction or have waited `LINGER_S`. Return an empty
        list after the end of the input.
        """
        await self._has_work.wait()
        try:
            async with asyncio.timeout(LINGER_S):
                await self._has_room.wait()
        except TimeoutError:
            pass  # write what is queued
        chunks, self._items, self._chunks = self._items, [], 0
        self._has_space.set()
        if not self._has_ended:
            self._has_work.clear()
            self._has_room.clear()
        return chunks
