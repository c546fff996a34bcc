"""Limits for the contents of a source."""

from __future__ import annotations

from portico_server.core.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """Limits of a source: the number of ``files``, and ``bytes`` and ``seconds`` per file.

    ``pictures`` and ``recordings`` state whether the source includes images and recordings.
    """

    files: int
    bytes: int
    seconds: float
    pictures: bool = True
    recordings: bool = False
