"""Distinguishes line breaks at the end of a full line from line breaks that an author set. Pure functions.

A line was full if the first word of the next line did not fit behind it. Lines of poems, addresses and lists are
rarely full, or each of them begins or ends as a line that the author broke.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from portico_server.core.dataclass import dataclass

WIDE = r"\u3000-\u303f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uff60"
"""Characters of Chinese and Japanese, which are twice as wide as others and can stand at any end of a line."""

MIN_ROOM_SHARE = 0.95
MIN_OPEN_ROOM_SHARE = 0.8
"""Minimum share of the room that a line and the next word must take for the line to count as full. The share is lower
if the line ends within a sentence. The width of the word is estimated.
"""

MIN_FULL_SHARE = 0.6
"""Minimum share of full lines in running text. Last lines of paragraphs do not count."""

MIN_CONTINUED_SHARE = 0.35
"""Minimum share of lines in running text that begin within a sentence, if the script has capital letters."""

MAX_CLAUSE_SHARE = 0.6
"""Maximum share of full lines in running text that end a clause. Almost every line of a poem does."""

MIN_COLUMNS = 20
"""Minimum width of a full line, in columns (two per Chinese character). Narrower lines are a list or a poem."""

MIN_PROSE_COLUMNS, MAX_PROSE_COLUMNS = 48, 160
"""Widths of a full line, in columns, at which it is running text even if no line begins within a sentence. A wider line
is a paragraph.
"""

MAX_END_CHARS = 8
"""Number of characters at the end of a line that tell how it ends."""

_WIDE = re.compile(f"[{WIDE}]")
_STARTS_WIDE = re.compile(rf"[“‘”’]?[{WIDE}·—]|[”’]")
_ENDS_WIDE = re.compile(rf"[{WIDE}”’·—]")
_DIGIT = re.compile(r"\d")
_NARROW = re.compile(r"[^\W_]|[%()]")
_ENDS_CLAUSE = re.compile(r"[。！？；：，、,.!?;:…][”’」』）)]*$")
_ENDS_SENTENCE = re.compile(r"[。！？.!?:：…][”’」』）)\"']*$")
_ITEM = re.compile(
    r"(?:[-*+•‣◦▪·–—|#>]\s|[-*+•‣◦▪·|>]$|\(?\d{1,3}[.)]\s|\(?[a-z][.)]\s|[（(]?[一二三四五六七八九十]{1,3}[)）、.]|\d{1,3}[、．]"
    r"|第[一二三四五六七八九十百\d]{1,4}[章节条款编]|```|~~~)"
)
_NARROW_WORD = re.compile(rf"[^\s{WIDE}]{{1,24}}")
_PAGE_NUMBER = re.compile(r"\d{1,4}")
_REFERENCE = re.compile(r"\[\d+\]\s")
_TABULAR = re.compile(r"\S(?:\t| {3,})\S|\.{4,}|…{2,}|\S \| \S")
_ENDS_NUMBER = re.compile(r"\d[\d.,%]*$")
_WORD_HYPHEN = re.compile(r"[^\W_][-\u00ad\u2010\ufffe\x02]$")


@dataclass(frozen=True, slots=True)
class ColumnLine:
    """A line of a column. ``end`` is the distance of its right end from the left edge of the column, in any unit;
    ``width`` is its own width in this unit.
    """

    text: str
    end: float
    width: float


def text_line(text: str) -> ColumnLine:
    """Return a line of plain text, measured in columns: two per Chinese character."""
    stripped = text.strip()
    end = float(columns(text.rstrip()))
    return ColumnLine(stripped, end, float(columns(stripped)))


def columns(text: str) -> int:
    """Return the width of a text in columns: two per Chinese character."""
    return len(text) + (0 if text.isascii() else len(_WIDE.findall(text)))


def continued_lines(lines: Sequence[ColumnLine], room: float = 0.0) -> list[bool]:
    """Return for each line of a column whether the next line continues its text.

    ``room`` is the width of the column if it is known to be wider than the longest line.
    """
    room = max(room, max((line.end for line in lines), default=0.0))
    pairs = list(pairwise(lines))
    full = [_is_full(line, following, room) for line, following in pairs]
    share = _Shares(pairs, full)
    return [is_full and share.allow(*pair) for is_full, pair in zip(full, pairs, strict=True)] + [
        False
    ] * bool(lines)


def begins_item(text: str) -> bool:
    """Return whether a line begins an item of a list, a numbered paragraph or a chapter."""
    return _ITEM.match(text) is not None


def begins_within_sentence(text: str) -> bool:
    """Return whether a line begins with a small letter, or with a letter of a script without capitals."""
    match = re.match(r"[\"'“‘(\[]*([^\W\d_])", text)
    return match is not None and not match[1].isupper() and _WIDE.match(match[1]) is None


def ends_sentence(text: str) -> bool:
    """Return whether a line ends with the mark of a sentence or with a colon."""
    return _ENDS_SENTENCE.search(text[-MAX_END_CHARS:].rstrip()) is not None


def is_wide_break(text: str, next_text: str) -> bool:
    """Return whether a line break adjoins a Chinese or Japanese character, and so means no space."""
    if _DIGIT.match(text[-1:]) and _DIGIT.match(next_text):
        return (
            _WIDE.search(text[-MAX_END_CHARS:]) is not None
            or _WIDE.search(next_text[:MAX_END_CHARS]) is not None
        )
    ends_wide, starts_wide = _ENDS_WIDE.match(text[-1:]), _STARTS_WIDE.match(next_text)
    if ends_wide is not None:
        return starts_wide is not None or _NARROW.match(next_text) is not None
    return starts_wide is not None and _NARROW.match(text[-1:]) is not None


def _is_full(line: ColumnLine, following: ColumnLine, room: float) -> bool:
    text, next_text = line.text, following.text
    if not text or not next_text or _ITEM.match(next_text) or _PAGE_NUMBER.fullmatch(next_text):
        return False
    if _REFERENCE.match(next_text) and ends_sentence(text):
        return False
    if _WORD_HYPHEN.match(text[-2:]):
        return next_text[:1].isalnum()
    if is_wide_break(text, next_text):
        narrow = _NARROW_WORD.match(next_text)
        word, space = 2 if narrow is None else len(narrow.group()), 0
    else:
        word, space = min(columns(next_text.split(maxsplit=1)[0]), 24), 1
    column = following.width / max(columns(next_text), 1)
    share = MIN_ROOM_SHARE if ends_sentence(text) else MIN_OPEN_ROOM_SHARE
    return line.end + (word + space) * column >= share * room and _TABULAR.search(text) is None


def _ends_clause(text: str) -> bool:
    return _ENDS_CLAUSE.search(text[-MAX_END_CHARS:]) is not None


class _Shares:
    """What the lines of a column have in common."""

    def __init__(self, pairs: Sequence[tuple[ColumnLine, ColumnLine]], full: Sequence[bool]) -> None:
        full_pairs = [pair for pair, is_full in zip(pairs, full, strict=True) if is_full]
        ends = sum(
            ends_sentence(line.text) and not is_full for (line, _), is_full in zip(pairs, full, strict=True)
        )
        count = max(len(full_pairs), 1)
        self._is_running = len(full_pairs) >= MIN_FULL_SHARE * (len(pairs) - ends)
        self._count = len(pairs)
        self._continued = sum(begins_within_sentence(line.text) for _, line in full_pairs) / count
        self._clauses = sum(_ends_clause(line.text) for line, _ in full_pairs) / count
        numbers = sum(_ENDS_NUMBER.search(line.text[-MAX_END_CHARS:]) is not None for line, _ in pairs)
        self._is_tabular = len(pairs) > 1 and numbers > MAX_CLAUSE_SHARE * len(pairs)

    def allow(self, line: ColumnLine, following: ColumnLine) -> bool:
        """Return whether a full line continues in the following line."""
        if _WORD_HYPHEN.match(line.text[-2:]):
            return True
        if not self._is_running or self._is_tabular or columns(line.text) < MIN_COLUMNS:
            return False
        if is_wide_break(line.text, following.text):
            return not _ends_clause(line.text) or self._clauses < MAX_CLAUSE_SHARE
        if _STARTS_WIDE.match(following.text) or begins_within_sentence(following.text):
            return True
        if MIN_PROSE_COLUMNS <= columns(line.text) <= MAX_PROSE_COLUMNS and not ends_sentence(line.text):
            return self._count == 1 or self._clauses < MAX_CLAUSE_SHARE
        return self._count > 1 and self._continued >= MIN_CONTINUED_SHARE
