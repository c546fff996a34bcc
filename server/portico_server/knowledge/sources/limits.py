"""How much of a source is taken."""

from __future__ import annotations

from portico_server.core.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """At most ``files`` files of ``bytes`` each, each within ``seconds``; ``pictures`` and ``recordings``: whether
    those are wanted.
    """

    files: int
    bytes: int
    seconds: float
    pictures: bool = True
    recordings: bool = False
