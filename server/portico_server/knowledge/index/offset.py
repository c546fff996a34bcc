"""How far an index has replayed the change log. Stored inside the index, so that it matches what the index holds."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from portico_server.core.dataclass import dataclass
from portico_server.db.changes import LogEntry

TEXT_FIELDS = ("words", "grams", "heads")
"""Fields of the lexical index that have what a chunk says …"""

NAME_FIELDS = ("names", "firsts")
"""… and how its file is called: every chunk, and the first one of each file."""


class DamagedIndex(Exception):
    """An index that cannot be read, or of another version. It is rebuilt from SQL; nothing is lost."""


@dataclass(frozen=True, slots=True)
class LogOffset:
    """The last change that an index holds, and enough of it to notice a database put back to a backup.

    ``seq`` −1 is an index that was never filled. ``highest`` is the largest chunk id that was ever put in.
    ``version`` names the recipe the index was made by.
    """

    version: int
    seq: int = 0
    op: str = ""
    file_id: str = ""
    first_chunk: int = 0
    highest: int = 0

    def at(self, change: LogEntry | None, highest: int) -> LogOffset:
        """This mark moved to ``change``; to the beginning of the log without one."""
        if change is None:
            return LogOffset(self.version, highest=highest)
        return LogOffset(self.version, change.seq, change.op, change.file_id, change.first_chunk, highest)

    def matches(self, change: LogEntry | None) -> bool:
        """Whether ``change``, the log's entry with this number, is the one that was applied."""
        if change is None:
            return self.seq == 0
        return (change.op, change.file_id, change.first_chunk) == (self.op, self.file_id, self.first_chunk)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str, version: int) -> LogOffset:
        """Read a mark back. Raises `DamagedIndex` if it is unreadable or of another version."""
        try:
            mark = cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise DamagedIndex(f"its mark cannot be read ({error})") from error
        if mark.version != version:
            raise DamagedIndex(f"it was made by version {mark.version} of the recipe, this is {version}")
        return mark


def is_outdated(folder: Path) -> bool:
    """Whether the lexical index in ``folder`` lacks a field that is searched: it is of an earlier version of ours."""
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
        return not {field["name"] for field in meta["schema"]}.issuperset((*TEXT_FIELDS, *NAME_FIELDS))
    except (OSError, ValueError, KeyError, TypeError):
        return False  # there is none, or it is damaged, which is noticed when it is opened
