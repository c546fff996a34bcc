"""The daemon's side of the processes that read documents. The processes also compute terms in advance for the index."""

from __future__ import annotations

import asyncio
import base64
import os
import tempfile
import threading
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, Protocol

import orjson

from portico.wire import Place
from portico_server.core import work_slots
from portico_server.core.context import Context
from portico_server.core.errors import Unavailable
from portico_server.features.chunkers.document import Part, Unreadable
from portico_server.features.readers import ocr
from portico_server.subprocesses import run_module

MAX_LINE_BYTES = 64 * 1024 * 1024
"""Maximum length of an answer line, in bytes."""

_KEPT_VARIABLES = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
)
"""Environment variables that a worker receives. All others are withheld, because they may contain keys or tokens."""

_FRUGAL_VARIABLES = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "MALLOC_TRIM_THRESHOLD_": "131072",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Environment variables with which libraries start no threads, and free memory returns to the system."""


class DescribesPictures(Protocol):
    """The interface for describing images: `portico_server.features.stores.model_calls.PictureDescriber`."""

    async def describe(self, path: Path, filename: str, context: Context) -> Part | None:
        """Return the description of an image. Return ``None`` if the file is not an image, or no model is available to
        describe it.
        """


class TranscribesRecordings(Protocol):
    """The interface for transcribing recordings: `portico_server.features.stores.recordings.RecordingTranscriber`."""

    async def write_down(self, path: Path, filename: str, context: Context) -> str | None:
        """Return the transcript as subtitles. Return ``None`` if the file is not a recording, or no model is
        available.
        """


class ReadsElsewhere(Protocol):
    """The interface for reading documents on other machines:
    `portico_server.features.readers.workers.DocumentWorkers`.
    """

    def answers(
        self, path: Path, name: str, about: Mapping[str, Any], context: Context | None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Read a document as `ReaderPool.answers` does. The ``context`` receives progress events while the document
        waits.
        """

    async def close(self) -> None:
        """Stop the remote readers."""


class ReaderPool:
    """At most ``workers`` processes, started on demand, each of which reads one file at a time. One more process
    starts if a single key occupies all others.

    ``seconds`` limits the time that a worker itself spends on a file (waiting for a slow consumer does not count), and
    ``memory`` the memory that it allocates, in bytes. A worker that exceeds one of these limits, or crashes, is
    replaced, and its file is `Unreadable`. ``languages`` are the OCR languages as tesseract names them, and
    ``recognition`` limits the OCR time for all images of a file, in seconds. ``ahead`` receives the terms of chunks
    that will be indexed. ``elsewhere`` reads files to be indexed on other machines.
    """

    def __init__(
        self,
        *,
        workers: int,
        seconds: float,
        memory: int,
        languages: str = "",
        recognition: float = 1_800.0,
        pictures: DescribesPictures | None = None,
        recordings: TranscribesRecordings | None = None,
        ahead: TermPrefetch | None = None,
        elsewhere: ReadsElsewhere | None = None,
    ) -> None:
        self._ahead = ahead
        self._elsewhere = elsewhere
        self._seconds = seconds
        self._memory = memory
        self._languages = languages
        self._recognition = recognition
        self._pictures = pictures
        self._recordings = recordings
        self._idle: list[asyncio.subprocess.Process] = []
        self._busy: set[asyncio.subprocess.Process] = set()
        self._slots = work_slots.FairSlots(workers, spare=True)
        self._is_closed = False

    async def read(
        self,
        path: Path,
        name: str,
        chunking: Mapping[str, Any] | None = None,
        context: Context | None = None,
        *,
        is_indexed: bool = False,
    ) -> AsyncGenerator[list[Part], None]:
        """Yield the parts of a file in batches, or its chunks if a validated ``chunking`` is given. ``name``
        determines the format.

        With a ``context``, models describe images and transcribe recordings, if they are available. ``is_indexed``
        means that the chunks are about to be indexed. Raises `Unreadable`. Close the iterator if you do not exhaust
        it.
        """
        if context is not None and self._pictures is not None:
            part = await self._pictures.describe(path, name, context)
            if part is not None:
                yield [part]
                return
        if context is not None and self._recordings is not None:
            subtitles = await self._recordings.write_down(path, name, context)
            if subtitles is not None:
                with tempfile.NamedTemporaryFile("w", suffix=".srt", encoding="utf-8") as file:
                    file.write(subtitles)
                    file.flush()
                    async with aclosing(
                        self.read(Path(file.name), f"{name}.srt", chunking, is_indexed=is_indexed)
                    ) as runs:
                        async for run in runs:
                            yield run
                return
        job = {
            "chunking": None if chunking is None else dict(chunking),
            "terms": is_indexed and self._ahead is not None,
        }
        found_answers = (
            self._elsewhere.answers(path, name, job, context)
            if is_indexed and self._elsewhere is not None
            else self.answers(path, name, job)
        )
        async with aclosing(found_answers) as answers:
            async for answer in answers:
                if "parts" in answer:
                    self._keep(answer)
                    yield [Part(text, _place(place)) for text, place in answer["parts"]]

    async def draw(self, path: Path, name: str, page: int, passage: str) -> bytes:
        """Render a page of a PDF, counted from 1, as a PNG with ``passage`` highlighted. Raises `Unreadable`."""
        async with aclosing(self.answers(path, name, {"page": page, "passage": passage})) as answers:
            async for answer in answers:
                if "picture" in answer:
                    return base64.b64decode(answer["picture"])
        raise Unreadable("could not be rendered.", "server_error")

    async def tables(self, path: Path, name: str, about: Mapping[str, Any]) -> Any:
        """Return what a worker finds out about the tables of a file: see `portico_server.features.readers.tables`.

        ``about`` has a ``question`` or a ``query``. Raises `Unreadable`.
        """
        async with aclosing(self.answers(path, name, {"tables": about})) as answers:
            async for answer in answers:
                if "tables" in answer:
                    return answer["tables"]
        raise Unreadable("could not be read.", "server_error")

    async def answers(
        self, path: Path, name: str, about: Mapping[str, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield a worker's answers for a file; `portico_server.features.readers.worker` defines them. Raises
        `Unreadable`.
        """
        job = {
            "path": str(path),
            "name": name,
            "memory": self._memory,
            "seconds": self._seconds,
            "recognition": self._recognition,
            **about,
        }
        async with self._slots.hold():
            process, line = await self._begin(orjson.dumps(job) + b"\n")
            is_whole = False
            try:
                remaining_s = self._seconds
                while True:
                    if line is None:
                        line, remaining_s = await self._line(process, remaining_s)
                    answer = orjson.loads(line) if line.endswith(b"\n") else None
                    line = None
                    if answer is None:
                        if self._is_closed:
                            raise _closing()
                        raise Unreadable(_exit_message(await process.wait(), self._memory))
                    if "going" in answer:
                        remaining_s = self._seconds
                        continue
                    is_whole = "done" in answer or "error" in answer
                    if "error" in answer:
                        raise Unreadable(answer["message"], answer["error"])
                    yield answer
                    if is_whole:
                        return
            finally:
                self._busy.discard(process)
                if is_whole and not self._is_closed:
                    self._idle.append(process)
                else:
                    await _kill(process)

    def _keep(self, answer: Mapping[str, Any]) -> None:
        """Keep the terms of chunks for the index."""
        if self._ahead is not None and "terms" in answer:
            for (text, _), (words, grams) in zip(answer["parts"], answer["terms"], strict=True):
                self._ahead.put(text, (words, grams))

    async def close(self) -> None:
        """Stop every worker. Reads in progress raise `Unavailable`."""
        self._is_closed = True
        processes = [*self._idle, *self._busy]
        self._idle = []
        for process in processes:
            await _kill(process)
        if self._elsewhere is not None:
            await self._elsewhere.close()

    async def _begin(self, job: bytes) -> tuple[asyncio.subprocess.Process, bytes | None]:
        """Return a worker that has accepted the job, and the first line of its answer if it was read already.

        If an idle worker exits just when it receives the job, another worker gets the job.
        """
        while self._idle:
            process = self._idle.pop()
            self._busy.add(process)
            with suppress(ConnectionError):
                await _send_job(process, job)
                try:
                    line, _ = await self._line(process, self._seconds)
                except BaseException:
                    self._busy.discard(process)
                    await _kill(process)
                    raise
                if line or await process.wait() != 0:
                    return process, line
            self._busy.discard(process)
            await _kill(process)
        process = await self._start()
        self._busy.add(process)
        with suppress(
            ConnectionError
        ):  # the worker has crashed, which the caller detects from the empty answer
            await _send_job(process, job)
        return process, None

    async def _start(self) -> asyncio.subprocess.Process:
        if self._is_closed:
            raise _closing()
        return await asyncio.create_subprocess_exec(
            *run_module("portico_server.features.readers.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=MAX_LINE_BYTES,
            env={
                **{name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
                **_FRUGAL_VARIABLES,
                ocr.LANGUAGES_VARIABLE: self._languages,
            },
            start_new_session=True,  # Ctrl-C in the terminal goes only to the daemon, which then stops the workers
        )

    async def _line(self, process: asyncio.subprocess.Process, remaining_s: float) -> tuple[bytes, float]:
        """Return the next line of the answer and the remaining seconds. Only the time spent waiting for the worker
        counts.
        """
        assert process.stdout is not None
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(remaining_s):
                line = await process.stdout.readline()
        except TimeoutError as error:
            raise Unreadable(
                f"took longer than {self._seconds:g} s to read. Split it, or raise the setting parse_timeout."
            ) from error
        except ValueError as error:
            raise Unreadable("produces more text in one answer than the limit allows. Split it.") from error
        return line, remaining_s - (clock() - began)


async def _send_job(process: asyncio.subprocess.Process, job: bytes) -> None:
    """Send a job to a worker. Raise `ConnectionError` if the worker has exited."""
    assert process.stdin is not None
    if process.returncode is not None or process.stdin.is_closing():
        raise ConnectionResetError("the worker has ended")
    try:
        process.stdin.write(job)
        await process.stdin.drain()
    except RuntimeError as error:  # uvloop raises it for a pipe that has been closed
        raise ConnectionResetError("the worker has ended") from error


async def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
    if process.stdin is not None:
        process.stdin.close()
    await process.wait()


def _closing() -> Unavailable:
    return Unavailable(
        "Portico is shutting down; the file will be read at the next start.", code="shutting_down"
    )


def _exit_message(code: int, memory: int) -> str:
    cause = f"signal {-code}" if code < 0 else f"status {code}"
    return (
        f"crashed the process that reads documents ({cause}); it may be damaged, or need more than "
        f"{memory // 2**20} MB."
    )


def _place(value: Mapping[str, Any]) -> Place:
    return Place(**{**value, "heading": tuple(value.get("heading", ()))})


MAX_TEXTS = 8_192
"""Maximum number of texts whose terms are kept."""

MAX_TERM_CHARS = 16_000_000
"""Maximum total length of the kept terms, in characters."""

JoinedTerms = tuple[str, str]
"""Words and bigrams, each joined with spaces."""


class TermPrefetch:
    """A thread-safe cache of terms by text. Entries that are not used in time are evicted, and the index computes them
    itself.
    """

    def __init__(self) -> None:
        self._terms: dict[str, JoinedTerms] = {}
        self._wide = 0
        self._lock = threading.Lock()

    def put(self, text: str, terms: JoinedTerms) -> None:
        """Cache the terms of a text."""
        with self._lock:
            self._forget(text)
            self._terms[text] = terms
            self._wide += len(terms[0]) + len(terms[1])
            while len(self._terms) > MAX_TEXTS or self._wide > MAX_TERM_CHARS:
                self._forget(next(iter(self._terms)))

    def take(self, text: str) -> JoinedTerms | None:
        """Return the terms of a text, and remove them from the cache."""
        with self._lock:
            return self._forget(text)

    def clear(self) -> None:
        """Remove all cached terms."""
        with self._lock:
            self._terms.clear()
            self._wide = 0

    def _forget(self, text: str) -> JoinedTerms | None:
        terms = self._terms.pop(text, None)
        if terms is not None:
            self._wide -= len(terms[0]) + len(terms[1])
        return terms
