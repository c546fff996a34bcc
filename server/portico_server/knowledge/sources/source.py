"""What a store can mirror: something that lists what it holds and hands it over, within limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from portico_server.blobs.place import ReceivedFile
from portico_server.core.dataclass import dataclass
from portico_server.db.stores import StoreFileRow
from portico_server.knowledge.walk import SourceEntry, Walk


@dataclass(frozen=True, slots=True)
class FetchFailure:
    """A file that was seen and could not be taken, and why in a few words. What is kept of it stays.

    ``gone``: it is there no longer, so that what is kept of it goes too. ``detail`` says it in a whole sentence.
    """

    reason: str
    gone: bool = False
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A file that need not be taken: its bytes are those that are kept."""


FetchResult: TypeAlias = ReceivedFile | FetchFailure | Unchanged


class StoreSource(Protocol):
    """A folder, a bucket, a list of pages. ``address`` says which one, for people."""

    @property
    def address(self) -> str: ...

    async def scan(self) -> Walk:
        """What is there now. Raises a `PorticoError` if that cannot be known: then nothing counts as gone."""
        ...

    async def digest(self, source_entry: SourceEntry) -> str | None:
        """The SHA-256 of a file if that can be told without taking it, else ``None``."""
        ...

    async def take(self, entries: Sequence[tuple[SourceEntry, StoreFileRow | None]]) -> list[FetchResult]:
        """The bytes of files, beside what is kept of each, in their order."""
        ...
