"""How much of a source is taken."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """At most ``files`` files of ``bytes`` each, each within ``seconds``; ``pictures`` and ``recordings``: whether
    those are wanted.
    """

    files: int
    bytes: int
    seconds: float
    pictures: bool = True
    recordings: bool = False
