"""Collects the output of several readers for one writer: small files share a transaction, long files are split."""

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

A file with up to this many chunks appears in searches all at once; a longer file appears in pieces. One transaction
for a text of 200 MB would hold 200,000 chunks in memory and block all other writers for minutes.
"""

MAX_BATCH_FILES = 128
"""Maximum number of files in a transaction: a commit costs several fsyncs regardless of its size."""

LINGER_S = 0.15
"""Maximum time that a finished file waits for others to share its transaction, in seconds."""


@dataclass(slots=True)
class ReadChunks:
    """A range of a file's chunks, possibly the ``last``, or the message that explains why the file could not be
    read.
    """

    row: StoreFileRow
    began: float
    chunks: list[NewChunk] = field(default_factory=list)
    first: bool = True
    last: bool = True
    used: int = 0
    """Bytes of text up to the end of this range."""
    code: str = ""
    message: str | None = None
    keep: bool = False
    """True if the next attempt continues from the existing chunks of a failed file."""


MAX_WAITING_FILES = 1_000
"""Number of waiting files considered when choosing the next ones to read."""

MAX_TURN_S = 5.0
"""Seconds after which an indexing run starts no further file while another run waits for the store."""

LOOK_INTERVAL_S = 1.0
"""Interval at which new files are looked for, in seconds."""

MAX_LOOK_SHARE = 0.05
"""Maximum share of the time spent on looking for new files."""

WaitingFiles: TypeAlias = Callable[[], Awaitable[Sequence[StoreFileRow]]]
"""Returns up to `MAX_WAITING_FILES` waiting files, `stores.in_turns`."""


class FileFeed:
    """Files that wait to be read, by owner, in rounds.

    A round includes files that arrive while others are read, except a file that must be chunked differently, which is
    in the next round.
    """

    def __init__(
        self, waiting_files: WaitingFiles, is_over: Callable[[bool], bool] = lambda _is_mirrored: False
    ) -> None:
        self._find_waiting = waiting_files
        self._is_over = is_over
        self.left = 0
        """Number of files left for another run."""
        self._seen_files: set[tuple[str, str]] = set()
        self._in_round: set[str] = set()
        self._queues: dict[str, deque[StoreFileRow]] = {}
        self._next_look = 0.0

    async def begin(self) -> Sequence[StoreFileRow]:
        """Begin a round after the previous files are written, and return the waiting files, if any."""
        self._in_round.clear()
        return await self.look()

    async def look(self) -> Sequence[StoreFileRow]:
        """Return the files that arrived since the last call. They are looked for when none remain, and at intervals."""
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
        """Return the next files to read, so that ``limit`` files of each owner are being read.

        Returns none if the feed is over; that check receives whether any mirrored file is waiting or being read.
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
    """A queue bounded in chunks, from which one writer takes batches of the size of a transaction."""

    def __init__(self) -> None:
        self._items: list[ReadChunks] = []
        self._chunks = 0
        self._has_ended = False
        self._has_work = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_space = asyncio.Event()
        self._has_space.set()

    async def put(self, item: ReadChunks) -> None:
        """Add chunks; wait while the queue contains more than one transaction's worth."""
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
        """Return the queued items in order, once they are enough or have waited `LINGER_S`; empty after the end."""
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
