"""Why a program ended, as the end of its log says it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

LONGEST = 500
"""Characters that are quoted."""

_POINTS = re.compile(
    r"root cause|see (?:the )?(?:stack ?trace|logs?|errors?)\b|background process", re.IGNORECASE
)
"""What a program of several processes says of an error that another one has told of before."""

_ERROR = re.compile(r"\b[A-Z]\w*(?:Error|Exception): .+")


def last_words(lines: Iterable[str]) -> str:
    """The last line that says something, or the error before it that it points to; empty if nothing was said."""
    said = [line.strip() for line in lines if line.strip()]
    if not said:
        return ""
    if _POINTS.search(said[-1]):
        for line in reversed(said):
            found = _ERROR.search(line)
            if found is not None and not _POINTS.search(line):
                return found.group()[:LONGEST]
    return said[-1][:LONGEST]
