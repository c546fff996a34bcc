"""What a bucket holds, on this machine: as much as fits, what was asked for last longest."""

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
    """Files below ``folder`` under the names that they have in the bucket, ``max_bytes`` in all; 0 for any number.

    What is held open stays, even if that is more. A file is there whole or not at all, whoever is killed, and another
    process may remove any of them.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._sizes: OrderedDict[str, int] | None = None
        """By name, those first that were asked for longest ago; ``None`` until it was looked."""
        self._bytes = 0
        self._held: Counter[str] = Counter()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._looking = asyncio.Lock()

    @property
    def arrivals(self) -> Path:
        """Where bytes are received that may become files of the cache."""
        return self._folder / "arriving"

    async def start(self) -> None:
        """Remove what a process left that was killed while it received something, and what is too much; once."""
        if self._sizes is None:
            await pools.UPLOADS.run(shutil.rmtree, self.arrivals, True)
            await self._shrink()

    @asynccontextmanager
    async def open(self, name: str, fetch: Callable[[Path], Awaitable[None]]) -> AsyncIterator[Path]:
        """The file under a name, which stays as long as it is open; ``fetch`` writes it to a path if it is not here,
        and raises `FileNotFoundError` if there is none: nothing is at that path then.
        """
        self._held[name] += 1
        try:
            with suppress(FileNotFoundError):
                await self._find(name, fetch)
            yield self._folder / name
        finally:
            self._held[name] -= 1
            if not self._held[name]:
                del self._held[name]
            await self._shrink()

    async def adopt(self, draft: Path, name: str) -> None:
        """Take over a file that the bucket has too."""
        sizes = await self._look()
        size = await pools.UPLOADS.run(self._move, draft, name)
        self._bytes += size - sizes.pop(name, 0)
        sizes[name] = size
        await self._shrink()

    async def drop(self, name: str) -> None:
        """Remove a file: the bucket does not have it any more."""
        sizes = await self._look()
        self._bytes -= sizes.pop(name, 0)
        await pools.UPLOADS.run(self._unlink, name)

    async def names(self, folder: str) -> list[str]:
        """What is here below a folder."""
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
                draft.unlink(missing_ok=True)  # also when this task is being cancelled
                if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                    raise write_failure(error) from error
                raise

    def _lock_of(self, name: str) -> asyncio.Lock:
        """Who fetches or removes a file."""
        return self._locks.setdefault(name, asyncio.Lock())

    async def _look(self) -> OrderedDict[str, int]:
        """What is here, by the time it was asked for last: read once."""
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
            if name not in self._held:
                async with self._lock_of(name):  # whoever opens it meanwhile finds it gone, and fetches it
                    if name in sizes and name not in self._held:
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
        """Note that a file was asked for, for the next start; whether it is here."""
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
