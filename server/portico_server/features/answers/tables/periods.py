"""Periods in a question: days, months, quarters, halves of a year and years, in English and Chinese. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import Final

from portico_server.core.dataclass import dataclass
from portico_server.features.answers.dates import MONTH_NUMBERS, find_dates

_ORDINALS: Final = {
    "first": 1,
    "1st": 1,
    "second": 2,
    "2nd": 2,
    "third": 3,
    "3rd": 3,
    "fourth": 4,
    "4th": 4,
    "last": 4,
}
_CHINESE_DIGITS: Final = {"一": 1, "二": 2, "三": 3, "四": 4}
_ORDINAL = "|".join(_ORDINALS)
_QUARTER = re.compile(
    r"\bq(?P<a>[1-4])(?:\s+of|,|/)?\s*(?P<ay>[12]\d{3})\b|\b(?P<by>[12]\d{3})[\s/-]*q(?P<b>[1-4])\b"
    rf"|\b(?P<c>{_ORDINAL})\s+quarter\s+(?:of\s+|in\s+)?(?P<cy>[12]\d{{3}})\b"
    r"|(?P<dy>[12]\d{3})年的?第?(?P<d>[一二三四1-4])个?季度?"
)
_HALF = re.compile(
    r"\b(?P<a>first|second|1st|2nd)\s+half\s+(?:of\s+|in\s+)?(?P<ay>[12]\d{3})\b|(?P<by>[12]\d{3})年的?(?P<b>[上下])半年"
)


_MONTH = "|".join(sorted(MONTH_NUMBERS, key=len, reverse=True))
_FIRST_MONTH = re.compile(
    rf"\b(?P<month>{_MONTH})\b\.?(?=\s*(?:to|until|till|through|and|-|–)\s*(?:{_MONTH})\b)"
)
"""A month before another month, which also has the year."""


@dataclass(frozen=True, slots=True)
class Period:
    """Words from ``start`` to ``end`` of a question for the time from ``first`` to before ``following``, in ISO dates.

    Without a year, as in "March", both are empty and ``month`` and ``day`` are set. Other times, such as a weekday,
    have none of these.
    """

    start: int
    end: int
    first: str = ""
    following: str = ""
    month: int = 0
    day: int = 0

    def in_year(self, year: int) -> Period | None:
        """Return the period in a year, or ``None`` if it names no month or a day that does not exist."""
        return _period(self.start, self.end, year, self.month, self.day) if self.month else None


def find_periods(question: str) -> Iterator[Period]:
    """Yield the periods in a folded question."""
    for match in _QUARTER.finditer(question):
        group = match.groupdict()
        year = int(group["ay"] or group["by"] or group["cy"] or group["dy"])
        word = group["a"] or group["b"] or group["c"] or group["d"]
        quarter = _ORDINALS.get(word) or _CHINESE_DIGITS.get(word) or int(word)
        yield _months(match, year, 3 * quarter - 2, 3)
    for match in _HALF.finditer(question):
        year = int(match["ay"] or match["by"])
        is_first = match["a"] in ("first", "1st") or match["b"] == "上"
        yield _months(match, year, 1 if is_first else 7, 6)
    for match in _FIRST_MONTH.finditer(question):
        yield Period(match.start(), match.end(), month=MONTH_NUMBERS[match["month"]])
    for start, end, parts in find_dates(question):
        values = {part[0]: int(part[1:]) for part in parts}
        if not values.keys() <= {"y", "m", "d"} or (values.keys() == {"d"}):
            yield Period(start, end)
        elif "y" in values:
            period = _period(start, end, values["y"], values.get("m", 0), values.get("d", 0))
            yield period or Period(start, end)
        else:
            yield Period(start, end, month=values["m"], day=values.get("d", 0))


def _months(match: re.Match[str], year: int, month: int, count: int) -> Period:
    first = date(year, month, 1)
    following = date(year + (month + count > 12), (month + count - 1) % 12 + 1, 1)
    return Period(match.start(), match.end(), first.isoformat(), following.isoformat())


def _period(start: int, end: int, year: int, month: int, day: int) -> Period | None:
    try:
        first = date(year, month or 1, day or 1)
        if day:
            following = date.fromordinal(first.toordinal() + 1)
        elif month:
            following = date(year + month // 12, month % 12 + 1, 1)
        else:
            following = date(year + 1, 1, 1)
    except (ValueError, OverflowError):
        return None
    return Period(start, end, first.isoformat(), following.isoformat(), month, day)
