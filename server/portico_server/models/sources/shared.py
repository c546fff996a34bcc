"""Model files in a bucket that daemons share: the parts of files by their content, and a note for each source.

Each part of a file is an object of `PART_BYTES`, named after its SHA-256. A file of any size therefore needs no
multipart upload, and an interrupted upload keeps its finished parts. Nothing in the bucket is ever deleted.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from portico_server.blobs.bucket import Bucket
from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError
from portico_server.models.sources.disk_room import require_room
from portico_server.models.sources.local import PARTIAL_MARK, open_local
from portico_server.models.sources.receipt import DownloadReceipt, ReceiptFile
from portico_server.models.sources.source import ModelSource

logger = logging.getLogger(__name__)

PART_BYTES: Final = 64 * 1024 * 1024
MAX_NOTE_BYTES: Final = 16 * 1024 * 1024
MAX_CONCURRENT_PARTS: Final = 4

_READ_BYTES: Final = 1024 * 1024
_BLOCK_BYTES: Final = 512
"""Unit of ``st_blocks``, regardless of the disk's block size."""


class _Unusable(Exception):
    """The bucket's files are unusable: the note is not ours or names forbidden paths, or the parts are wrong."""


@dataclass(frozen=True, slots=True)
class SharedFile(ReceiptFile):
    """A file of a model, with the SHA-256 of each of its parts."""

    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SharedNote(DownloadReceipt):
    """The note about a source's files in the bucket."""

    files: Mapping[str, SharedFile]


class SharedModels:
    """The bucket of the setting ``models_bucket``. Its errors are logged and never prevent a model from loading."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._requested_sources: set[ModelSource] = set()
        self._sharing: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()

    async def problem(self) -> PorticoError | None:
        """Return the error that makes the bucket unavailable, if there is one."""
        return await self._bucket.problem()

    async def close(self) -> None:
        """Stop uploads; the next daemon that uses the model continues them."""
        for task in self._sharing:
            task.cancel()
        if self._sharing:
            await asyncio.wait(self._sharing)
        await self._bucket.close()

    async def fetch(
        self,
        source: ModelSource,
        folder: Path,
        promised_sha256: str,
        report: Callable[[int, int | None], None],
    ) -> DownloadReceipt | None:
        """Fetch the bucket's files of ``source`` into ``folder``, whose lock the caller holds; return None if the
        bucket cannot provide them.

        ``promised_sha256`` is the SHA-256 that one of the files must have, if known. Raise `Unavailable` for a full
        disk.
        """
        try:
            note = await self._read_note(source)
        except FileNotFoundError:
            return None
        except (PorticoError, _Unusable) as error:
            logger.warning("skipping the bucket with model files for '%s': %s", source, error)
            return None
        if promised_sha256 and promised_sha256 not in {file.sha256 for file in note.files.values()}:
            logger.warning(
                "the files of '%s' in the bucket with model files do not match the expected hash", source
            )
            return None
        total, done_bytes = sum(file.size for file in note.files.values()), 0
        partial_bytes = {
            name: await pools.MODELS.run(_existing_bytes, folder / name, file)
            for name, file in note.files.items()
        }
        require_room(folder, total - sum(partial_bytes.values()), source)
        (folder / PARTIAL_MARK).touch()
        self._requested_sources.add(source)

        def on_bytes(size: int) -> None:
            nonlocal done_bytes
            done_bytes += size
            report(done_bytes, total)

        try:
            for name, file in note.files.items():
                await self._fetch_file(folder / name, file, partial_bytes[name] > 0, on_bytes)
            if note.path.endswith(".gguf"):
                open_local(folder / note.path)
        except (PorticoError, FileNotFoundError, _Unusable) as error:
            logger.warning("'%s' could not be fetched from the bucket with model files: %s", source, error)
            return None
        receipt_files = {name: ReceiptFile(file.size, file.sha256) for name, file in note.files.items()}
        return DownloadReceipt(note.path, note.revision, receipt_files)

    def share(self, source: ModelSource, folder: Path, receipt: DownloadReceipt) -> None:
        """Upload a fetched model to the bucket in the background, unless the bucket already has it."""
        if source in self._requested_sources:
            return
        self._requested_sources.add(source)
        task = asyncio.create_task(self._share(source, folder, receipt), name=f"share {source}")
        self._sharing.add(task)
        task.add_done_callback(self._sharing.discard)

    async def _share(self, source: ModelSource, folder: Path, receipt: DownloadReceipt) -> None:
        try:
            async with self._one_at_a_time:
                if await self._bucket.size(_note_name(source)) is not None:
                    return
                files = {}
                for name, receipt_file in receipt.files.items():
                    parts = await self._put_file(folder / name, receipt_file.size)
                    files[name] = {"size": receipt_file.size, "sha256": receipt_file.sha256, "parts": parts}
                note = {
                    "source": str(source),
                    "path": receipt.path,
                    "revision": receipt.revision,
                    "files": files,
                }
                await self._put_note(source, folder, json.dumps(note).encode())
                logger.info("'%s' is now in the bucket with model files", source)
        except (PorticoError, OSError, EOFError) as error:
            self._requested_sources.discard(source)  # the upload is tried again when the model is used next
            logger.warning("'%s' could not be uploaded to the bucket with model files: %s", source, error)

    async def _put_file(self, path: Path, size: int) -> list[str]:
        parts = []
        for start in range(0, size, PART_BYTES):
            length = min(PART_BYTES, size - start)
            digest = await pools.MODELS.run(_digest, path, start, length)
            await self._bucket.put(path, _part_name(digest), digest, length, start=start)
            parts.append(digest)
        return parts

    async def _put_note(self, source: ModelSource, folder: Path, note: bytes) -> None:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".note-") as file:
            file.write(note)
            file.flush()
            digest = hashlib.sha256(note).hexdigest()
            await self._bucket.put(Path(file.name), _note_name(source), digest, len(note))

    async def _read_note(self, source: ModelSource) -> SharedNote:
        return _parse(await self._bucket.read(_note_name(source), MAX_NOTE_BYTES), str(source))

    async def _fetch_file(
        self, target: Path, file: SharedFile, has_begun: bool, on_bytes: Callable[[int], None]
    ) -> None:
        """Fetch the parts of a file that are not on the disk yet, then rename the file.

        ``has_begun``: an earlier fetch has left parts on the disk.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        part = _partial(target, file)
        await pools.MODELS.run(_allocate, part, file.size)
        slots = asyncio.Semaphore(MAX_CONCURRENT_PARTS)

        async def fetch(number: int, digest: str) -> None:
            start = number * PART_BYTES
            length = min(PART_BYTES, file.size - start)
            async with slots:
                if not has_begun or await pools.MODELS.run(_digest, part, start, length) != digest:
                    await self._bucket.download(_part_name(digest), digest, part, start=start, size=length)
            on_bytes(length)

        try:
            async with asyncio.TaskGroup() as tasks:
                for number, digest in enumerate(file.parts):
                    tasks.create_task(fetch(number, digest), name=f"part {number} of {target.name}")
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        if await pools.MODELS.run(_digest, part, 0, file.size) != file.sha256:
            await pools.MODELS.run(part.unlink)
            raise _Unusable(f"the parts of '{target.name}' do not form the file")
        await pools.MODELS.run(os.replace, part, target)


def _note_name(source: ModelSource) -> str:
    return f"sources/{hashlib.sha256(str(source).encode()).hexdigest()}.json"


def _part_name(digest: str) -> str:
    return f"parts/{digest[:2]}/{digest}"


def _parse(data: bytes, source: str) -> SharedNote:
    """Parse a note. Raise `_Unusable` if it is invalid or names files outside its folder."""
    try:
        document: Any = json.loads(data)
        files = {
            str(name): SharedFile(
                int(file_entry["size"]), str(file_entry["sha256"]), tuple(map(str, file_entry["parts"]))
            )
            for name, file_entry in document["files"].items()
        }
        note = SharedNote(str(document["path"]), str(document["revision"]), files)
        known_source = document["source"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _Unusable("its note is not valid") from error
    if known_source != source or not files or (note.path != "." and note.path not in files):
        raise _Unusable("its note describes another source")
    for name, file in files.items():
        inside = PurePosixPath(name)
        if inside.is_absolute() or not inside.name or ".." in inside.parts or "\\" in name or "\0" in name:
            raise _Unusable("its note names files outside the folder")
        if file.size < 0 or len(file.parts) != -(-file.size // PART_BYTES):
            raise _Unusable("the number of parts in its note does not match its files")
    return note


def _partial(target: Path, file: SharedFile) -> Path:
    return target.with_name(f".{target.name}.{file.sha256[:12]}.shared")


def _existing_bytes(target: Path, file: SharedFile) -> int:
    """Return how many bytes of a file an earlier fetch has left on the disk.

    A complete file without a receipt becomes a partial file again, and its parts are checked.
    """
    part = _partial(target, file)
    if target.is_file() and not part.exists() and target.stat().st_size == file.size:
        os.replace(target, part)
    if not part.exists():
        return 0
    return min(
        file.size, part.stat().st_blocks * _BLOCK_BYTES
    )  # a sparse file counts only its allocated blocks


def _allocate(path: Path, size: int) -> None:
    with path.open("ab") as file:
        file.truncate(size)


def _digest(path: Path, start: int, size: int) -> str:
    """Return the SHA-256 of a section of a file. Raise `EOFError` if the file ends before the section does."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        while size:
            block = file.read(min(_READ_BYTES, size))
            if not block:
                raise EOFError(f"{path.name} is shorter than before")
            digest.update(block)
            size -= len(block)
    return digest.hexdigest()
