"""What decides whether a caller may read a file of a store."""

from __future__ import annotations

from collections.abc import Sequence

from portico_server.core.dataclass import dataclass
from portico_server.core.request import Attributes


@dataclass(frozen=True, slots=True)
class FileLabels:
    """The attributes of a file in a store, and its readers: sets of groups. In a store with rights, a caller needs a
    group of each set, such as one for a folder and one for the file. ``None`` means that nobody may read the file.
    """

    attributes: Attributes
    readers: Sequence[Sequence[str]] | None = None
