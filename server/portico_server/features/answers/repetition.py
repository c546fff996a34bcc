"""Detects repetition: when a small model has finished its answer, it often begins to repeat it."""

from __future__ import annotations

SHORTEST, MAX_REPEATED_CHARS = 12, 300
REPEAT_COUNT = 3


def repeats(text: str) -> bool:
    """Return whether ``text`` ends with three repetitions of the same 12 to 300 characters."""
    end = len(text)
    for size in range(SHORTEST, min(MAX_REPEATED_CHARS, end // REPEAT_COUNT) + 1):
        last = text[end - size :]
        if all(text.endswith(last, 0, end - size * time) for time in range(1, REPEAT_COUNT)) and last.strip():
            return True
    return False
