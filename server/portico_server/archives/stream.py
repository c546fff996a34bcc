"""Writing a zip archive as a stream: nothing of it is kept on disk or whole in memory."""

from __future__ import annotations

import asyncio
import hashlib
import io
import zipfile
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from contextlib import aclosing
from typing import IO, Any, Final, TypeVar, cast

T = TypeVar("T")

Blocks = AsyncGenerator[bytes, None]

BLOCK_BYTES: Final = 1024 * 1024

LEVEL: Final = 4
"""How hard deflate tries: above it, time grows faster than size falls."""


class _Sink(io.RawIOBase):
    """Where the zip writer leaves its bytes until they are sent on."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._held.append(piece)
        return len(piece)

    def taken(self) -> bytes:
        """What came since the last time."""
        data, self._held = b"".join(self._held), []
        return data


class ArchiveStream:
    """One archive. ``sums`` has the SHA-256 of each entry so far, for the manifest, which is written last.

    ``executor`` does what blocks; by default the event loop's own. Close it, also when nobody listens any more.
    """

    def __init__(self, executor: Executor | None = None) -> None:
        self._executor = executor
        self._sink = _Sink()
        self._zip = zipfile.ZipFile(
            cast("IO[bytes]", self._sink), "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL
        )
        self.sums: dict[str, str] = {}

    async def entry(self, name: str, blocks: Blocks, *, is_stored: bool = False) -> Blocks:
        """Pieces of the archive that hold one entry. ``is_stored``: not compressed, as it would not get smaller."""
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_STORED if is_stored else zipfile.ZIP_DEFLATED
        digest = hashlib.sha256()
        async with aclosing(blocks):
            with self._zip.open(info, "w", force_zip64=True) as out:
                async for block in blocks:
                    await self._blocking(_write, out, digest, block)
                    yield self._sink.taken()
        self.sums[name] = digest.hexdigest()
        yield self._sink.taken()

    async def end(self) -> bytes:
        """The archive's last bytes: its table of contents."""
        await self._blocking(self._zip.close)
        return self._sink.taken()

    def close(self) -> None:
        """Let go of it."""
        self._zip.close()

    async def _blocking(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)


async def once(data: bytes) -> Blocks:
    """One block."""
    yield data


def _write(out: IO[bytes], digest: Any, block: bytes) -> None:
    out.write(block)
    digest.update(block)
