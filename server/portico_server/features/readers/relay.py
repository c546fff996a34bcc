"""A process, started by a launcher, that reads documents for the daemon. Jobs are lines on stdin, answers lines on
stdout.

The first line is ``{"seconds", "memory", "languages", "recognition"}``, the limits of a `ReaderPool` with one worker.
Each job is ``{"path", "name", "bytes", "about"}``. The answers are those of the reader; the last one contains
``done``, or is an ``error``. As on the daemon's machine, a separate process reads each document, so that this process
survives any crash.

If the file does not exist on this machine, the answer is ``{"missing": true}``, and the daemon sends the document in
lines ``{"data": base64}``. At most `MAX_ANSWERS_UNDER_WAY` answers may be unacknowledged: the daemon acknowledges each
answer except the last with a line ``{"taken": true}``. The process exits when it is idle or the daemon has
disconnected.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson

from portico_server.features.chunkers.document import Unreadable
from portico_server.features.readers.pool import ReaderPool

IDLE_EXIT_S: Final = 60.0
"""Seconds without a job after which the process exits."""

MAX_ANSWERS_UNDER_WAY: Final = 4

MAX_LINE_BYTES: Final = 8 * 1024 * 1024
"""Maximum length of a line on stdin, in bytes."""


class ReadingRelay:
    """The input and output of the relay, and the messages that have arrived."""

    def __init__(self, lines: asyncio.StreamReader, out: BinaryIO) -> None:
        self._lines = lines
        self._out = out
        self._readers: ReaderPool | None = None

    async def run(self) -> None:
        """Process jobs until nothing arrives for `IDLE_EXIT_S` seconds, or the input ends."""
        try:
            while (message := await self._next()) is not None:
                if self._readers is None:
                    self._readers = ReaderPool(workers=1, **message)
                elif "taken" not in message:  # a "taken" line acknowledges an answer for a job that has ended
                    await self._work(message, self._readers)
        except (TimeoutError, EOFError):
            return
        finally:
            if self._readers is not None:
                await self._readers.close()

    async def _next(self) -> dict[str, Any] | None:
        async with asyncio.timeout(IDLE_EXIT_S):
            return await self._line()

    async def _line(self) -> dict[str, Any] | None:
        line = await self._lines.readline()
        if not line.endswith(b"\n"):
            return None
        message: dict[str, Any] = orjson.loads(line)
        return message

    async def _work(self, job: dict[str, Any], readers: ReaderPool) -> None:
        try:
            async with self._document(job) as path:
                under_way = 0
                async with aclosing(readers.answers(path, job["name"], job["about"])) as answers:
                    async for answer in answers:
                        if under_way == MAX_ANSWERS_UNDER_WAY:
                            await self._expect()
                            under_way -= 1
                        self._send(answer)
                        under_way += 1
        except Unreadable as error:
            self._send({"error": error.code, "message": error.message})
        except OSError as error:
            words = error.strerror or str(error)
            self._send(
                {
                    "error": "server_error",
                    "message": f"could not be stored on the machine that reads it: {words}.",
                }
            )

    @asynccontextmanager
    async def _document(self, job: dict[str, Any]) -> AsyncIterator[Path]:
        """Yield the path of the document, which is either in a shared folder or copied temporarily to this machine."""
        path = Path(job["path"])
        if _size(path) == job["bytes"]:
            yield path
            return
        self._send({"missing": True})
        with tempfile.NamedTemporaryFile(prefix="portico-") as file:
            remaining_bytes = job["bytes"]
            while remaining_bytes > 0:
                data = base64.b64decode((await self._expect())["data"])
                remaining_bytes -= len(data)
                if not data or remaining_bytes < 0:
                    raise Unreadable(
                        "changed while it was sent to the machine that reads it.", "server_error"
                    )
                file.write(data)
            file.flush()
            yield Path(file.name)

    async def _expect(self) -> dict[str, Any]:
        """Return the next message. Raise `EOFError` if the daemon has disconnected."""
        message = await self._line()
        if message is None:
            raise EOFError
        return message

    def _send(self, message: dict[str, Any]) -> None:
        self._out.write(orjson.dumps(message) + b"\n")
        self._out.flush()


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


async def serve() -> None:
    """Process jobs from stdin."""
    # Text that libraries print must not mix with the answer lines.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    lines = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(os.dup(0), "rb", buffering=0)
    )
    await ReadingRelay(lines, out).run()


def main() -> None:
    """Run the relay without writing bytecode into package folders."""
    sys.dont_write_bytecode = True
    asyncio.run(serve())


if __name__ == "__main__":
    main()
