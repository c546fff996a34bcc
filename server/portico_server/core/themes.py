"""Requests about a whole store: its themes (`portico.schemas.stores.StoreThemes`), and its files that changed."""

from __future__ import annotations

from portico.wire import Passage
from portico_server.core.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class FindThemes:
    """Asks a store for its themes and for the names that its passages mention most often."""


@dataclass(frozen=True, slots=True)
class FindChangedFiles:
    """Asks for the files that were added or changed at ``since`` or later, in seconds since 1970; at most ``limit``."""

    since: float
    limit: int


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """The first passage of a file, and when the file changed, in seconds since 1970."""

    passage: Passage
    changed_at: float


@dataclass(frozen=True, slots=True)
class ChangedFiles:
    """The files that changed last, the newest first, and the number of all files that changed."""

    files: tuple[ChangedFile, ...] = ()
    count: int = 0
