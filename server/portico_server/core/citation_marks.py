"""Citation marks: numbers in brackets with which an answer cites passages."""

from __future__ import annotations

import re
from typing import Final

MARK_PATTERN: Final = r"[\[【]\s*\d{1,3}(?:\s*[,，、;]\s*\d{1,3})*\s*[\]】]"
"""The regular expression of a citation mark, such as ``[2]`` or ``[1, 3]``."""

_MARK = re.compile(rf"[ \t]?{MARK_PATTERN}")
_OPEN = re.compile(r"(?:[ \t]?[\[【][\d\s,，、;]{0,40}|[ \t])$")
_NUMBER = re.compile(r"\d+")


def cited_numbers(answer: str, count: int) -> tuple[int, ...]:
    """Return the numbers from 1 to ``count`` that ``answer`` cites, each once and in ascending order."""
    numbers = {int(n) for mark in _MARK.findall(answer) for n in _NUMBER.findall(mark)}
    return tuple(sorted(n for n in numbers if 1 <= n <= count))


def marks(answer: str) -> list[tuple[int, tuple[int, ...]]]:
    """Return the marks in ``answer``, except those in code, as (position, cited numbers)."""
    numbered_marks: list[tuple[int, tuple[int, ...]]] = []
    start = 0
    for place, piece in enumerate(answer.split("`")):
        if place % 2 == 0:
            for match in _MARK.finditer(piece):
                bracket = match.start() + (match.group()[0] in " \t")
                numbered_marks.append(
                    (start + bracket, tuple(int(n) for n in _NUMBER.findall(match.group())))
                )
        start += len(piece) + 1
    return numbered_marks


class Citations:
    """A filter that removes marks such as ``[9]`` from a streamed answer if there are fewer passages. ``count`` is the
    number of passages.

    Text inside backticks is code and passes unchanged. Text is held back only while it may still become a mark.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pending_text = ""
        self._code = False

    def feed(self, text: str) -> str:
        """Add text; return all text that can now be shown."""
        text = self._pending_text + text
        tail = _OPEN.search(text)
        cut = tail.start() if tail else len(text)
        self._pending_text = text[cut:]
        return self._clean(text[:cut])

    def close(self) -> str:
        """Return the remaining text at the end of the stream."""
        text, self._pending_text = self._pending_text, ""
        return self._clean(text)

    def _clean(self, text: str) -> str:
        pieces = text.split("`")
        for index, piece in enumerate(pieces):
            if index:
                self._code = not self._code
            if not self._code:
                pieces[index] = _MARK.sub(self._mark, piece)
        return "`".join(pieces)

    def _mark(self, match: re.Match[str]) -> str:
        mark = match.group()
        numbers = [int(n) for n in _NUMBER.findall(mark)]
        known_numbers = [n for n in numbers if 1 <= n <= self._count]
        if known_numbers == numbers:
            return mark
        if not known_numbers:
            return ""
        space = mark[0] if mark[0] in " \t" else ""
        return f"{space}[{', '.join(map(str, known_numbers))}]"
