"""The interface of sources that a store can mirror. A source lists its files and returns their bytes, within limits."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final, Protocol, TypeAlias

from portico_server.blobs.place import ReceivedFile
from portico_server.core.dataclass import dataclass
from portico_server.db.stores import StoreFileRow
from portico_server.features.sources.walk import SourceEntry, Walk

MAX_TIME_S: Final = 2**33
"""Latest time of a change, in seconds since 1970. The database cannot store every time that a server can state."""


@dataclass(frozen=True, slots=True)
class FetchFailure:
    """A listed file could not be read; ``reason`` is short. The stored version of the file is kept.

    ``gone`` means that the file no longer exists, so the stored version is removed too. ``detail`` is the reason as a
    sentence.
    """

    reason: str
    gone: bool = False
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A file need not be fetched, because its stored bytes are current."""


FetchResult: TypeAlias = ReceivedFile | FetchFailure | Unchanged


def change_time(seconds: int, tag: str) -> int:
    """Return the time of a change in nanoseconds, adjusted by the file's entity tag to distinguish changes within one
    second. A time that cannot be stored counts as unknown, 0.
    """
    known_seconds = seconds if 0 <= seconds <= MAX_TIME_S else 0
    return known_seconds * 1_000_000_000 + zlib.crc32(tag.encode()) % 1_000_000_000


class StoreSource(Protocol):
    """A source such as a folder, a bucket or a list of pages. ``address`` names the source in messages."""

    @property
    def address(self) -> str: ...

    async def scan(self) -> Walk:
        """Return the current contents of the source. Raise a `PorticoError` if they cannot be determined; then no file
        counts as removed.
        """
        ...

    async def digest(self, source_entry: SourceEntry) -> str | None:
        """Return the SHA-256 of a file if it is known without fetching the file; otherwise ``None``."""
        ...

    async def take(self, entries: Sequence[tuple[SourceEntry, StoreFileRow | None]]) -> list[FetchResult]:
        """Return the bytes of files, in the order of ``entries``. Each entry contains the stored version of the file,
        if any.
        """
        ...
