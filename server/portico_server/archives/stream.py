"""Writing of a zip archive as a stream: the archive is never stored on disk or held completely in memory."""

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
"""Compression level of deflate. At higher levels, the time grows faster than the size shrinks."""


class _Sink(io.RawIOBase):
    """Buffers the bytes of the zip writer until they are sent."""

    def __init__(self) -> None:
        self._pending_pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pending_pieces.append(piece)
        return len(piece)

    def take(self) -> bytes:
        """Return the bytes written since the last call."""
        data, self._pending_pieces = b"".join(self._pending_pieces), []
        return data


class ArchiveStream:
    """An archive that is written as a stream. ``sums`` maps the entries written so far to their SHA-256, for the
    manifest at the end.

    ``executor`` runs the blocking work; the default is the event loop's executor. Close the stream even if the client
    has disconnected.
    """

    def __init__(self, executor: Executor | None = None) -> None:
        self._executor = executor
        self._sink = _Sink()
        self._zip = zipfile.ZipFile(
            cast("IO[bytes]", self._sink), "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL
        )
        self.sums: dict[str, str] = {}

    async def entry(self, name: str, blocks: Blocks, *, is_stored: bool = False) -> Blocks:
        """Yield the pieces of the archive for one entry. With ``is_stored``, the entry is not compressed, because
        compression would not make it smaller.
        """
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_STORED if is_stored else zipfile.ZIP_DEFLATED
        digest = hashlib.sha256()
        async with aclosing(blocks):
            with self._zip.open(info, "w", force_zip64=True) as out:
                async for block in blocks:
                    await self._blocking(_write, out, digest, block)
                    yield self._sink.take()
        self.sums[name] = digest.hexdigest()
        yield self._sink.take()

    async def end(self) -> bytes:
        """Return the archive's last bytes: its central directory."""
        await self._blocking(self._zip.close)
        return self._sink.take()

    def close(self) -> None:
        """Release the archive."""
        self._zip.close()

    async def _blocking(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)


async def once(data: bytes) -> Blocks:
    """Yield a single block."""
    yield data


def _write(out: IO[bytes], digest: Any, block: bytes) -> None:
    out.write(block)
    digest.update(block)
