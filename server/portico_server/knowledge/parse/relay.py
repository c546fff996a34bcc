"""A process that reads documents where a launcher has started it: jobs as lines on stdin, answers as lines on stdout.

The first line is ``{"seconds", "memory", "languages", "recognition"}``, the limits of a `ReaderPool` of one. Then each
job is ``{"path", "name", "bytes", "about"}``, and the answers are those of the reader, the last one with ``done``, or
an ``error``. A document is read by a process of its own, as beside the daemon: this one survives whatever it does to
that.
Where there is no such file, the answer is ``{"missing": true}``, and the document comes in lines ``{"data": base64}``.
At most `MAX_ANSWERS_UNDER_WAY` answers are on their way: for each but the last a line ``{"taken": true}`` comes back.
It ends when it has been idle, or nobody is there any more.
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

from portico_server.knowledge.document import Unreadable
from portico_server.knowledge.parse.pool import ReaderPool

IDLE_EXIT_S: Final = 60.0
"""Seconds without a job after which the process ends."""

MAX_ANSWERS_UNDER_WAY: Final = 4

MAX_LINE_BYTES: Final = 8 * 1024 * 1024
"""Bytes of one line of stdin."""


class ReadingRelay:
    """Its two ends, and what has come from one of them."""

    def __init__(self, lines: asyncio.StreamReader, out: BinaryIO) -> None:
        self._lines = lines
        self._out = out
        self._readers: ReaderPool | None = None

    async def run(self) -> None:
        """Until nothing comes for `IDLE_EXIT_S` seconds, or ever."""
        try:
            while (message := await self._next()) is not None:
                if self._readers is None:
                    self._readers = ReaderPool(workers=1, **message)
                elif "taken" not in message:  # one of a job that has ended
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
            self._send({"error": "server_error", "message": f"could not be kept where it is read: {words}."})

    @asynccontextmanager
    async def _document(self, job: dict[str, Any]) -> AsyncIterator[Path]:
        """Where the document is: a folder that this machine sees too, or here for as long as it is read."""
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
                    raise Unreadable("has changed while it was sent to where it is read.", "server_error")
                file.write(data)
            file.flush()
            yield Path(file.name)

    async def _expect(self) -> dict[str, Any]:
        """The next line. Raises `EOFError` if there is nobody to work for any more."""
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
    """Read jobs from stdin."""
    # What libraries print must not come between our lines.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    lines = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(os.dup(0), "rb", buffering=0)
    )
    await ReadingRelay(lines, out).run()


def main() -> None:
    """Nothing is left behind in the folders of a package."""
    sys.dont_write_bytecode = True
    asyncio.run(serve())


if __name__ == "__main__":
    main()
