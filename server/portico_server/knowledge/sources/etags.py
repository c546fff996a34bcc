"""What a source has said of its files (ETag, date, digest), so that nothing unchanged is fetched twice."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from portico_server.core import pools

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ETagEntry:
    """Of one file: its name here, its entity tag and date as they were sent, and the digest of the bytes.

    ``sha256`` is empty where nothing was kept: as long as the rest is true, it need not be fetched to be left out.
    """

    name: str = ""
    tag: str = ""
    date: str = ""
    sha256: str = ""
    refused: str = ""
    """Why it was left out when it was looked at."""


class ETagCache:
    """The notes of one store, by address or key, in a file that may be deleted at any time.

    A note is only believed beside the bytes that it is about: it is a saving, never the truth.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._notes: dict[str, ETagEntry] | None = None
        self._changed = False

    async def load(self) -> None:
        """Read them once."""
        if self._notes is None:
            self._notes = await pools.FILES.run(self._read)

    def of(self, at: str) -> ETagEntry:
        """What is noted of a file; an empty note if nothing is."""
        return (self._notes or {}).get(at, ETagEntry())

    def digests(self) -> dict[str, str]:
        """The digests of what was kept, by entity tag."""
        notes = (self._notes or {}).values()
        return {note.tag: note.sha256 for note in notes if note.tag and note.sha256}

    def note(self, at: str, note: ETagEntry) -> None:
        """Note something of a file."""
        assert self._notes is not None, "load comes first"
        if self._notes.get(at) != note:
            self._notes[at] = note
            self._changed = True

    def keep(self, those: Collection[str]) -> None:
        """Forget all others."""
        for at in (self._notes or {}).keys() - set(those):
            assert self._notes is not None
            del self._notes[at]
            self._changed = True

    async def save(self) -> None:
        """Write them down, if there is anything new."""
        if self._changed:
            self._changed = False
            await pools.FILES.run(self._write, dict(self._notes or {}))

    def _read(self) -> dict[str, ETagEntry]:
        try:
            found = json.loads(self._path.read_bytes())
            return {at: ETagEntry(**values) for at, values in found.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            logger.warning(
                "the ETag cache of a source starts empty, %s cannot be read: %s", self._path, error
            )
            return {}

    def _write(self, notes: dict[str, ETagEntry]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps({at: asdict(note) for at, note in notes.items()}), encoding="utf-8")
            new.replace(self._path)
        except OSError as error:
            logger.warning("the ETag cache of a source could not be written: %s", error)
