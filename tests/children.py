"""The processes that a test has started, without those that were there before it."""

from __future__ import annotations

import psutil

_before: set[int] = set()


def mark() -> None:
    """Begin to count."""
    _before.clear()
    _before.update(child.pid for child in psutil.Process().children())


def children() -> list[psutil.Process]:
    """The living children of this process that came since `mark`."""
    return [child for child in psutil.Process().children() if child.pid not in _before]
