"""Small models that have nothing more to say begin to say it again."""

from __future__ import annotations

SHORTEST, LONGEST = 12, 300
TIMES = 3


def repeats(text: str) -> bool:
    """Whether ``text`` ends in the same 12 to 300 characters three times over."""
    end = len(text)
    for size in range(SHORTEST, min(LONGEST, end // TIMES) + 1):
        last = text[end - size :]
        if all(text.endswith(last, 0, end - size * time) for time in range(1, TIMES)) and last.strip():
            return True
    return False
