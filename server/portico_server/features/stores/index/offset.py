"""The position up to which an index has replayed the change log. It is stored in the index, so that both stay
consistent.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from portico_server.core.dataclass import dataclass
from portico_server.db.changes import LogEntry

TEXT_FIELDS = ("words", "grams", "heads")
"""Fields of the lexical index with the text of chunks."""

NAME_FIELDS = ("names", "firsts")
"""Fields of the lexical index with the file name: ``names`` for every chunk, ``firsts`` for the first chunk of a
file.
"""


class DamagedIndex(Exception):
    """An index is unreadable or of another version. The index is then rebuilt from SQL without loss."""


@dataclass(frozen=True, slots=True)
class LogOffset:
    """The last change in an index, with enough data to detect that the database was restored from a backup.

    ``seq`` −1 means that the index was never filled. ``highest`` is the highest chunk id ever added. ``version`` is
    the version of the code that built the index.
    """

    version: int
    seq: int = 0
    op: str = ""
    file_id: str = ""
    first_chunk: int = 0
    highest: int = 0

    def at(self, change: LogEntry | None, highest: int) -> LogOffset:
        """Return this offset moved to ``change``, or to the beginning of the log if ``change`` is ``None``."""
        if change is None:
            return LogOffset(self.version, highest=highest)
        return LogOffset(self.version, change.seq, change.op, change.file_id, change.first_chunk, highest)

    def matches(self, change: LogEntry | None) -> bool:
        """Return whether ``change``, the log entry with the number of this offset, is the change that the index has
        applied.
        """
        if change is None:
            return self.seq == 0
        return (change.op, change.file_id, change.first_chunk) == (self.op, self.file_id, self.first_chunk)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str, version: int) -> LogOffset:
        """Parse an offset. Raises `DamagedIndex` if it is unreadable or of another version."""
        try:
            mark = cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise DamagedIndex(f"its log offset is unreadable ({error})") from error
        if mark.version != version:
            raise DamagedIndex(
                f"it was built with version {mark.version}, but the current version is {version}"
            )
        return mark


def is_outdated(folder: Path) -> bool:
    """Return whether the lexical index in ``folder`` has an older version, which lacks a field that searches use."""
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
        return not {field["name"] for field in meta["schema"]}.issuperset((*TEXT_FIELDS, *NAME_FIELDS))
    except (OSError, ValueError, KeyError, TypeError):
        return False  # the index is missing, or damaged, which opening it detects
