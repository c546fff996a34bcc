"""The daemon's side of document workers, which a launcher starts, for example on other machines."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson

from portico.wire import Progressed
from portico_server.core import pools, work_slots
from portico_server.core.context import Context
from portico_server.core.errors import PorticoError, Unavailable
from portico_server.features.chunkers.document import Unreadable
from portico_server.features.readers.pool import MAX_LINE_BYTES
from portico_server.launchers.protocol import LaunchedProcess, Launcher, LaunchOrder
from portico_server.subprocesses import run_module

logger = logging.getLogger(__name__)

MAX_LOST_WORKERS: Final = 3
"""Maximum number of workers that may be lost while reading one document. The document then fails, because it may have
crashed them.
"""

NAME: Final = "documents"
"""Name of document workers in the list of processes on machines."""

_BLOCK_BYTES: Final = 1024 * 1024
"""Number of bytes of a document sent at a time."""


class WorkersUnavailable(Unavailable):
    """No worker can be started, so no document can be read. The cause is not a document."""


class _WorkerLost(Exception):
    """The worker process has ended, for whatever reason."""


class DocumentWorker:
    """A worker process, which reads one document at a time: see `portico_server.features.readers.relay`."""

    def __init__(self, process: LaunchedProcess) -> None:
        self.process = process
        self.works = False
        """True while the worker reads a document whose answers are not complete."""
        self._lines = process.lines()

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    async def send(self, message: Mapping[str, Any]) -> None:
        """Write a line."""
        await self.process.send(orjson.dumps(message) + b"\n")

    async def read(
        self, path: Path, name: str, about: Mapping[str, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the worker's answers for a document. Raises `_WorkerLost` and `Unreadable`."""
        with await pools.UPLOADS.run(_open, path) as document:
            self.works = True
            size = os.fstat(document.fileno()).st_size
            await self.send({"path": str(path), "name": name, "bytes": size, "about": about})
            while (line := await self._line()).endswith(b"\n"):
                answer = orjson.loads(line)
                if "missing" in answer:
                    await self._deliver(document)
                    continue
                self.works = not ("done" in answer or "error" in answer)
                yield answer
                if not self.works:
                    return
                await self.send({"taken": True})
        raise _WorkerLost

    async def _line(self) -> bytes:
        """Return the next line of the answer, which may lack a line break if the output has ended."""
        try:
            return await anext(self._lines, b"")
        except ValueError as error:
            raise Unreadable("produces more text in one answer than the limit allows. Split it.") from error

    async def _deliver(self, document: BinaryIO) -> None:
        while self.alive and (block := await pools.UPLOADS.run(document.read, _BLOCK_BYTES)):
            await self.send({"data": base64.b64encode(block).decode()})


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise Unreadable(f"could not be opened: {error.strerror or error}.", "server_error") from error


class DocumentWorkers:
    """At most ``count`` worker processes, and one more if a single key occupies all others. They start on demand and
    exit when idle.

    ``limits`` are those of a `ReaderPool`: ``seconds``, ``memory``, ``languages``, ``recognition``. If a worker is
    lost, another worker reads the document again and skips the parts that were already delivered.
    """

    def __init__(
        self, launcher: Callable[[], Awaitable[Launcher]], *, count: int, limits: Mapping[str, Any], log: Path
    ) -> None:
        self._launcher = launcher
        self._limits = limits
        self._log = log
        self._slots = work_slots.FairSlots(count, spare=True)
        self._idle: list[DocumentWorker] = []
        self._busy: set[DocumentWorker] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        """Tasks that each clean up after a worker whose process has ended."""
        self._launching: set[asyncio.Task[None]] = set()
        self._documents = 0
        """Number of documents that are being read or wait to be read."""
        self._waiting_count = 0
        """Number of documents that are allowed to be read but have no worker yet."""
        self._failure: PorticoError | None = None
        """The error with which the last worker failed to start. It is kept as long as documents wait."""
        self._words = ""
        """The reason why the next worker is not running yet."""
        self._change_event = asyncio.Event()
        self._is_closed = False

    async def answers(
        self, path: Path, name: str, about: Mapping[str, Any], context: Context | None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the answers for a document as `ReaderPool.answers` does. Raises `Unreadable`, and `WorkersUnavailable`
        if no worker can be started.
        """
        handed_on: list[bytes] = []
        self._documents += 1
        try:
            async with self._slots.hold():
                for _ in range(MAX_LOST_WORKERS):
                    worker = await self._take(context)
                    try:
                        async with aclosing(worker.read(path, name, about)) as answers:
                            number = 0
                            async for answer in answers:
                                if "error" in answer:
                                    raise Unreadable(answer["message"], answer["error"])
                                digest = hashlib.sha256(orjson.dumps(answer)).digest()
                                number += 1
                                if number > len(handed_on):
                                    handed_on.append(digest)
                                    yield answer
                                elif handed_on[number - 1] != digest:
                                    raise _otherwise()
                        if number < len(handed_on):
                            raise _otherwise()
                        return
                    except _WorkerLost:
                        logger.warning("a worker reading %s %s", name, worker.process.exit_description())
                    finally:
                        await self._give(worker)
            raise Unreadable(
                f"could not be read: {MAX_LOST_WORKERS} workers ended while reading it. The document may "
                "need more memory than their machines have.",
                "server_error",
            )
        finally:
            self._documents -= 1
            if not self._documents:
                for launch in self._launching:
                    launch.cancel()

    async def close(self) -> None:
        """Stop every worker. Reads in progress raise `Unavailable`."""
        self._is_closed = True
        self._notify()
        if launching := list(self._launching):
            for launch in launching:
                launch.cancel()
            await asyncio.wait(launching)
        await asyncio.gather(*(worker.process.stop(0) for worker in [*self._idle, *self._busy]))
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _take(self, context: Context | None) -> DocumentWorker:
        """Return an idle worker. If no worker is idle, start one."""
        if not self._waiting_count:
            self._failure = None
        self._waiting_count += 1
        known_words = ""
        try:
            while True:
                if self._is_closed:
                    raise Unavailable(
                        "Portico is shutting down; the file will be read at the next start.",
                        code="shutting_down",
                    )
                while self._idle:
                    if (worker := self._idle.pop()).alive:
                        self._busy.add(worker)
                        return worker
                if self._failure is None and len(self._launching) < self._waiting_count:
                    self._begin(self._launch(), self._launching)
                elif self._failure is not None and not self._busy and not self._launching:
                    raise WorkersUnavailable(self._failure.message, code=self._failure.code)
                event = self._change_event
                if context is not None and self._words not in ("", known_words):
                    known_words = self._words
                    await context.emit(Progressed("queued", f"a document worker {known_words}"))
                await event.wait()
        finally:
            self._waiting_count -= 1

    async def _give(self, worker: DocumentWorker) -> None:
        """Take back a worker that has read a document, or that is no longer usable."""
        self._busy.discard(worker)
        if worker.alive and not worker.works and not self._is_closed:
            self._idle.append(worker)
        else:
            await asyncio.shield(worker.process.stop(0))
        self._notify()

    def _begin(self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(work, name=NAME)
        tasks.add(task)

        def on_end(_task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            self._notify()

        task.add_done_callback(on_end)

    async def _launch(self) -> None:
        order = LaunchOrder(
            NAME,
            run_module("portico_server.features.readers.relay"),
            self._log,
            line_bytes=MAX_LINE_BYTES,
            on_wait=self._hear,
        )
        try:
            worker = DocumentWorker(await (await self._launcher()).launch(order))
        except PorticoError as error:
            logger.warning("failed to start a document worker: %s", error.message)
            self._failure = error
            return
        self._begin(self._follow(worker), self._tasks)
        try:
            await worker.send(self._limits)
        except BaseException:
            await asyncio.shield(worker.process.stop(0))
            raise
        self._words = ""
        self._idle.append(worker)

    async def _follow(self, worker: DocumentWorker) -> None:
        """Wait until a worker has ended, and clean up."""
        await worker.process.wait()
        await worker.process.stop(0)
        if worker in self._idle:
            self._idle.remove(worker)

    def _hear(self, words: str) -> None:
        self._words = words
        self._notify()

    def _notify(self) -> None:
        self._change_event.set()
        self._change_event = asyncio.Event()


def _otherwise() -> Unreadable:
    return Unreadable(
        "was read differently by another worker after the first worker was lost. Add the file again.",
        "server_error",
    )
