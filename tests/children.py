"""The processes that a test has started, excluding those that ran before the test."""

from __future__ import annotations

import psutil

_before: set[int] = set()


def mark() -> None:
    """Start counting processes."""
    _before.clear()
    _before.update(child.pid for child in psutil.Process().children())


def children() -> list[psutil.Process]:
    """Return the living children of this process that were started since `mark`."""
    return [child for child in psutil.Process().children() if child.pid not in _before]
