"""Detects repetition: when a small model has finished its answer, it often begins to repeat it."""

from __future__ import annotations

SHORTEST, MAX_REPEATED_CHARS = 12, 300
REPEAT_COUNT = 3


def repeats(text: str) -> bool:
    """Return whether ``text`` ends with three repetitions of the same 12 to 300 characters."""
    end = len(text)
    if end < SHORTEST * REPEAT_COUNT:
        return False
    tail = text[-SHORTEST:]
    # An earlier occurrence of the last characters gives the length of what may be repeated.
    start = end - SHORTEST
    first = max(0, start - MAX_REPEATED_CHARS)
    while (start := text.rfind(tail, first, start)) >= 0:
        size = end - SHORTEST - start
        last = text[end - size :]
        if text.endswith(last * REPEAT_COUNT) and last.strip():
            return True
        start += SHORTEST - 1
    return False
