"""Limits for the contents of a source."""

from __future__ import annotations

from portico_server.core.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """Limits of ``files`` files, ``bytes`` bytes per file and ``seconds`` seconds per file.

    ``pictures`` and ``recordings``: whether those are wanted.
    """

    files: int
    bytes: int
    seconds: float
    pictures: bool = True
    recordings: bool = False
