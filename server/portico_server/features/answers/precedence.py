"""Which of several contradicting passages takes precedence: the one with more authority, or the newer one.

The attributes of the files decide, then the version or date in file names and headings, then dates in the text. Pure
functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

from portico.wire import Passage
from portico_server.features.answers.dates import find_dates
from portico_server.features.answers.material import QuoteCandidate
from portico_server.features.answers.terms import fold

AUTHORITY: Final = "authority"
DATED: Final = ("valid_from", "effective_date", "version", "date", "updated", "published", "year")
"""File attributes that decide which of several files takes precedence. The first attribute that all files have is
compared; the higher value wins.
"""

MAX_ATTRIBUTE_CHARS = 64
MAX_HEADING_CHARS = 1_000
"""Number of characters of a file name or heading in which a version and a date are searched for."""

Preference: TypeAlias = Literal["", "authority", "newer"]
"""Why one of several candidates takes precedence."""

Rank: TypeAlias = tuple[float, ...]
"""A value by which candidates are ordered, such as a year, a month and a day. Empty if unknown."""

_VERSION = re.compile(
    r"(?<![\w.])v(?:er(?:sion)?)?[ ._-]?(\d+(?:\.\d+)*)(?!\w)|(?<!\d)(\d+)版", re.IGNORECASE
)
_DAY = re.compile(r"(?<!\d)(20\d{2}|19\d{2})(?:[-_./年](\d{1,2})(?:[-_./月](\d{1,2}))?)?(?!\d)")
_NUMBERS = re.compile(r"\d+")
_LABEL = re.compile(
    r"(?:\b(?:updated|revised|published|issued|modified|changed|effective|valid|dated?|as of|since|from)\b|"
    r"更新|修订|发布|发表|印发|公布|生效|施行|实施|截至|截止|日期|自|从)[^\n。.]{0,12}$"
)
"""A word that says that a date behind it is the date of the text."""

STAMP = re.compile(
    r"(?:as of|since|from|in|effective|starting|beginning)\s+(?:[a-z]+\s+)?(?:\d{1,2},?\s+)?(?:19|20)\d{2}\s*[:,]?\s+"
    r"|(?:截至|截止|自|从|自从|于)?(?:19|20)\d{2}年(?:\d{1,2}月(?:\d{1,2}日)?)?(?:起|开始|以来|以后|之后|底|初|，|,)+"
)
"""A date at the beginning of a sentence that says since when the sentence is true."""


def by_precedence(
    candidates: Sequence[QuoteCandidate], passages: Sequence[Passage]
) -> tuple[tuple[QuoteCandidate, ...], Preference]:
    """Return the candidates in the order of precedence, and the reason for the order. The first criterion that all
    candidates have, and in which they differ, decides.
    """
    for reason, rank in _RANKS:
        ranks = [rank(candidate, passages[candidate.passage]) for candidate in candidates]
        if all(ranks) and len(set(ranks)) > 1:
            order = sorted(range(len(ranks)), key=lambda number: ranks[number], reverse=True)
            return tuple(candidates[number] for number in order), reason
    return tuple(candidates), ""


def _attribute(name: str) -> _RankOf:
    return lambda candidate, passage: _numbers(passage.attributes.get(name))


def _numbers(value: object) -> Rank:
    """Return an attribute as comparable numbers: ``2026-11-20`` and ``1.10`` are split into their parts."""
    if isinstance(value, bool) or value is None:
        return ()
    if isinstance(value, int | float):
        return (float(value),)
    return tuple(float(part) for part in _NUMBERS.findall(str(value)[:MAX_ATTRIBUTE_CHARS]))


def _title(passage: Passage) -> str:
    return " ".join(part[:MAX_HEADING_CHARS] for part in (passage.filename, *passage.place.heading))


def _version(candidate: QuoteCandidate, passage: Passage) -> Rank:
    match = _VERSION.search(_title(passage))
    return _numbers(match[1] or match[2]) if match is not None else ()


def _day_of_title(candidate: QuoteCandidate, passage: Passage) -> Rank:
    """Return the date or year in a passage's file name or in the headings above the passage."""
    title = _title(passage)
    match = _DAY.search(title)
    numbers = tuple(float(part) for part in match.groups() if part) if match is not None else ()
    named_day = next((day for _start, day in _days(fold(title))), ())
    return named_day if len(named_day) > len(numbers) else numbers


def _day_of_sentence(candidate: QuoteCandidate, passage: Passage) -> Rank:
    """Return the date at which a sentence begins to be true."""
    stamp = STAMP.match(candidate.folded)
    days = [] if stamp is None else [day for _start, day in _days(stamp.group())]
    return days[0] if days else ()


def _day_of_text(candidate: QuoteCandidate, passage: Passage) -> Rank:
    """Return the first date in a passage that follows a word such as "updated"."""
    text = fold(passage.text)
    return next((day for start, day in _days(text) if _LABEL.search(text, max(0, start - 40), start)), ())


def _days(folded_text: str) -> list[tuple[int, Rank]]:
    """Return the dates with a year in a text: where each begins, and its year, month and day."""
    days = []
    for start, _end, parts in find_dates(folded_text):
        numbers = {part[0]: float(part[1:]) for part in parts}
        if "y" in numbers:
            day = [numbers["y"]]
            for letter in "md":
                if letter not in numbers:
                    break
                day.append(numbers[letter])
            days.append((start, tuple(day)))
    return days


_RankOf: TypeAlias = Callable[[QuoteCandidate, Passage], Rank]

_RANKS: tuple[tuple[Preference, _RankOf], ...] = (
    ("authority", _attribute(AUTHORITY)),
    *(("newer", _attribute(name)) for name in DATED),
    ("newer", _version),
    ("newer", _day_of_title),
    ("newer", _day_of_sentence),
    ("newer", _day_of_text),
)
