"""Fetches files from the network concurrently, and returns a reason for each failure.

Files that are unchanged according to their source (by ETag, date or digest) are not fetched.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from portico_server.blobs.place import ReceivedFile
from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, PorticoError, TooLarge, Unavailable
from portico_server.core.fetching import FetchedResponse
from portico_server.core.words import whole_number
from portico_server.db.stores import StoreFileRow
from portico_server.features.files.files import FileStorage
from portico_server.features.readers.formats import format_of
from portico_server.features.sources.source import FetchFailure, FetchResult
from portico_server.features.sources.walk import SourceEntry, no_text
from portico_server.settings import MB_BYTES

MAX_CONCURRENT_FETCHES = 8
"""Maximum number of files fetched concurrently from one source."""

FetchOne = Callable[[SourceEntry, StoreFileRow | None], Awaitable[FetchResult]]


async def fetch_all(
    files: FileStorage, entries: Sequence[tuple[SourceEntry, StoreFileRow | None]], fetch_one: FetchOne
) -> list[FetchResult]:
    """Fetch ``entries`` with ``fetch_one``, `MAX_CONCURRENT_FETCHES` at a time, and return the results in the same
    order.

    If an entry fails, its result is the failure. Raises `Unavailable` if Portico cannot write to its own disk.
    """
    slots = asyncio.Semaphore(MAX_CONCURRENT_FETCHES)
    fetch_results: dict[int, FetchResult] = {}

    async def take(number: int, seen_source_entry: SourceEntry, old: StoreFileRow | None) -> None:
        async with slots:
            try:
                fetch_results[number] = await fetch_one(seen_source_entry, old)
            except Unavailable:
                raise
            except PorticoError as error:
                fetch_results[number] = FetchFailure("could not be fetched", detail=error.message)

    try:
        async with asyncio.TaskGroup() as tasks:
            for number, (source_entry, old) in enumerate(entries):
                tasks.create_task(take(number, source_entry, old), name=f"take {number}")
    except BaseException as error:
        await drop_received(files, fetch_results.values())
        if isinstance(error, BaseExceptionGroup):
            raise error.exceptions[0] from None
        raise
    return [fetch_results[number] for number in range(len(entries))]


def unreadable(address: str, reason: str) -> Unavailable:
    """Return the error for a source that cannot be read at all."""
    return Unavailable(
        f"The {address} cannot be read: {reason.rstrip('.')}. The files indexed so far are kept.",
        code="source_unreadable",
    )


def source_too_large(reason: str) -> InvalidRequest:
    """Return the error for a source that exceeds its limits."""
    return InvalidRequest(reason, code="source_too_large", param="source")


async def drop_received(files: FileStorage, fetch_results: Iterable[FetchResult]) -> None:
    """Delete received bytes after an error."""
    for item in fetch_results:
        if isinstance(item, ReceivedFile):
            await asyncio.shield(files.drop(item))


async def receive_document(
    files: FileStorage, response: FetchedResponse, name: str, max_bytes: int
) -> ReceivedFile | FetchFailure:
    """Return the bytes of one file, or the reason why it is not a supported document."""
    too_large = FetchFailure(f"larger than {max_bytes // MB_BYTES} MB", gone=True)
    length = whole_number(response.headers.get("content-length", ""))
    if length is not None and length > max_bytes:
        return too_large
    try:
        file = await files.receive(response.body, durable=False)
    except TooLarge:
        return too_large
    empty_or_unknown = not file.bytes or format_of(name) is None
    if empty_or_unknown and (reason := await pools.DOCUMENTS.run(no_text, file.path)):
        await files.drop(file)
        return FetchFailure(reason, gone=True)
    return file


async def read_body(body: AsyncIterator[bytes], limit: int) -> bytes:
    """Read a whole body into memory. Raise `InvalidRequest` if it has more than ``limit`` bytes."""
    data = bytearray()
    async for block in body:
        data += block
        if len(data) > limit:
            raise source_too_large(
                f"The list of addresses to follow has more than {limit // MB_BYTES} MB; follow parts of the "
                "list."
            )
    return bytes(data)


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ETagEntry:
    """The name of one file, its entity tag and date as received, and the SHA-256 of its bytes.

    ``sha256`` is empty if the file was not stored. The file is then skipped without being fetched, unless the other
    values have changed.
    """

    name: str = ""
    tag: str = ""
    date: str = ""
    sha256: str = ""
    refused: str = ""
    """The reason why the file was left out, or ""."""


class ETagCache:
    """The ETag entries of one store, by address or key, in a file that can be deleted at any time.

    An entry is used only if the bytes of its file are still stored: the cache is an optimization, not a source of
    truth.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._notes: dict[str, ETagEntry] | None = None
        self._has_changed = False

    async def load(self) -> None:
        """Load the entries once."""
        if self._notes is None:
            self._notes = await pools.FILES.run(self._read)

    def of(self, at: str) -> ETagEntry:
        """Return the entry of a file, or an empty entry if the file has none."""
        return (self._notes or {}).get(at, ETagEntry())

    def digests(self) -> dict[str, str]:
        """Return the digests of stored files, by entity tag."""
        notes = (self._notes or {}).values()
        return {note.tag: note.sha256 for note in notes if note.tag and note.sha256}

    def note(self, at: str, note: ETagEntry) -> None:
        """Record the entry of a file."""
        assert self._notes is not None, "load must be called first"
        if self._notes.get(at) != note:
            self._notes[at] = note
            self._has_changed = True

    def keep(self, kept_paths: Collection[str]) -> None:
        """Remove all other entries."""
        for at in (self._notes or {}).keys() - set(kept_paths):
            assert self._notes is not None
            del self._notes[at]
            self._has_changed = True

    async def save(self) -> None:
        """Write the entries to disk if they have changed."""
        if self._has_changed:
            self._has_changed = False
            await pools.FILES.run(self._write, dict(self._notes or {}))

    def _read(self) -> dict[str, ETagEntry]:
        try:
            notes = json.loads(self._path.read_bytes())
            return {at: ETagEntry(**values) for at, values in notes.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            logger.warning(
                "the ETag cache of a source starts empty because %s cannot be read: %s", self._path, error
            )
            return {}

    def _write(self, notes: dict[str, ETagEntry]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps({at: asdict(note) for at, note in notes.items()}), encoding="utf-8")
            new.replace(self._path)
        except OSError as error:
            logger.warning("failed to write the ETag cache of a source: %s", error)
