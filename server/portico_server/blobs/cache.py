"""A local cache of a bucket, which keeps the most recently used files within its size limit."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4
from weakref import WeakValueDictionary

from portico_server.blobs.place import write_failure
from portico_server.core import pools


class BlobCache:
    """A cache of bucket objects in ``folder``, under the same names, with a total size of ``max_bytes``; 0 means no
    limit.

    Open files are kept even above the limit. A file is either complete or absent, even after a crash. Another process
    may remove any file.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._sizes: OrderedDict[str, int] | None = None
        """Maps names to sizes, least recently used first; ``None`` until the folder has been scanned."""
        self._bytes = 0
        self._use_counts: Counter[str] = Counter()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._looking = asyncio.Lock()

    @property
    def arrivals(self) -> Path:
        """The folder that receives files before they are moved into the cache."""
        return self._folder / "arriving"

    async def start(self) -> None:
        """Remove the partial files of a killed process, and files until the cache is within its limit. Called once."""
        if self._sizes is None:
            await pools.UPLOADS.run(shutil.rmtree, self.arrivals, True)
            await self._shrink()

    @asynccontextmanager
    async def open(self, name: str, fetch: Callable[[Path], Awaitable[None]]) -> AsyncIterator[Path]:
        """Yield the path of a cached file, which is kept while it is open.

        If the file is not cached, ``fetch`` downloads it to a path. If the object does not exist, ``fetch`` raises
        `FileNotFoundError`, and the yielded path does not exist.
        """
        self._use_counts[name] += 1
        try:
            with suppress(FileNotFoundError):
                await self._find(name, fetch)
            yield self._folder / name
        finally:
            self._use_counts[name] -= 1
            if not self._use_counts[name]:
                del self._use_counts[name]
            await self._shrink()

    async def adopt(self, draft: Path, name: str) -> None:
        """Move a file that is also in the bucket into the cache."""
        sizes = await self._look()
        size = await pools.UPLOADS.run(self._move, draft, name)
        self._bytes += size - sizes.pop(name, 0)
        sizes[name] = size
        await self._shrink()

    async def drop(self, name: str) -> None:
        """Remove a file that the bucket no longer contains."""
        sizes = await self._look()
        self._bytes -= sizes.pop(name, 0)
        await pools.UPLOADS.run(self._unlink, name)

    async def names(self, folder: str) -> list[str]:
        """Return the names cached below a folder."""
        return [name for name in await self._look() if name.startswith(f"{folder}/")]

    async def _find(self, name: str, fetch: Callable[[Path], Awaitable[None]]) -> None:
        async with self._lock_of(name):
            sizes = await self._look()
            if await pools.UPLOADS.run(self._touch, name):
                if name in sizes:
                    sizes.move_to_end(name)
                return
            draft = self.arrivals / uuid4().hex
            try:
                await fetch(draft)
                await self.adopt(draft, name)
            except BaseException as error:
                draft.unlink(missing_ok=True)  # also if this task is being cancelled
                if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                    raise write_failure(error) from error
                raise

    def _lock_of(self, name: str) -> asyncio.Lock:
        """Return the lock for fetching or removing a file."""
        return self._locks.setdefault(name, asyncio.Lock())

    async def _look(self) -> OrderedDict[str, int]:
        """Return the cached files, least recently used first; the folder is scanned once."""
        async with self._looking:
            if self._sizes is None:
                scanned_files = await pools.UPLOADS.run(self._scan)
                self._sizes = OrderedDict((name, size) for _at, name, size in sorted(scanned_files))
                self._bytes = sum(self._sizes.values())
            return self._sizes

    async def _shrink(self) -> None:
        sizes = await self._look()
        for name in list(sizes):
            if not self._max_bytes or self._bytes <= self._max_bytes:
                break
            if name not in self._use_counts:
                async with self._lock_of(name):  # a concurrent `open` then downloads the file again
                    if name in sizes and name not in self._use_counts:
                        self._bytes -= sizes.pop(name)
                        await pools.UPLOADS.run(self._unlink, name)

    def _scan(self) -> list[tuple[float, str, int]]:
        scanned_files = []
        for path in self._folder.glob("*/??/*"):
            with suppress(FileNotFoundError):
                state = path.stat()
                scanned_files.append((state.st_mtime, str(path.relative_to(self._folder)), state.st_size))
        return scanned_files

    def _touch(self, name: str) -> bool:
        """Set the file's modification time, by which the next start orders files; return whether the file is cached."""
        try:
            os.utime(self._folder / name)
        except FileNotFoundError:
            return False
        return True

    def _move(self, draft: Path, name: str) -> int:
        place = self._folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        size = draft.stat().st_size
        draft.replace(place)
        return size

    def _unlink(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)
