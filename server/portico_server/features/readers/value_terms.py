"""Numbers and dates as terms, whichever way they are written: 1,234.50 and 1.234,50; 2026-03-15 and 15 March 2026."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from portico_server.core.words import MONTHS, whole_number
from portico_server.features.readers.date_formats import GERMAN_MONTHS

_MONTH_NAMES: Final = tuple(zip(MONTHS, map(str.lower, GERMAN_MONTHS), strict=True))
_MONTH_NUMBERS: Final = {
    name: number
    for number, names in enumerate(_MONTH_NAMES, start=1)
    for name in (*names, *(name[:3] for name in names if name[:3].isascii()))
} | {"sept": 9}
"""Numbers of months by their names and short forms. "mär" is missing: a new form needs a new `ANALYSER_VERSION`."""

_MONTH = "|".join(sorted(_MONTH_NUMBERS, key=len, reverse=True))
# Each pattern begins with one digit, as the search for it is then several times as fast.
_NUMBER = re.compile(
    r"[0-9](?<![0-9a-z_.,'’][0-9])[0-9]{0,29}(?:[.,'’][0-9]{1,30}){1,10}(?![0-9a-z_]|[.,][0-9])"
)
_GROUPED = re.compile(r"([0-9]{1,3}(?:([.,'’])[0-9]{3})(?:\2[0-9]{3})*)(?:[.,]([0-9]+))?")
_DATE = re.compile(
    r"[0-9](?<![0-9][0-9])(?:"
    r"(?P<year>[0-9]{3})(?P<mark>[-/.年])\s?(?P<month>[0-9]{1,2})(?:(?P=mark)|月)\s?(?P<day>[0-9]{1,2})"
    r"|[0-9]?\.\s?[0-9]{1,2}\.\s?[0-9]{4}"
    r"|[0-9]?/[0-9]{1,2}/[0-9]{4}"
    rf"|[0-9]?(?:st|nd|rd|th|\.)?\s(?P<name>{_MONTH})\.?,?\s[0-9]{{4}}"
    r"|[0-9]?(?:st|nd|rd|th)?,?\s[0-9]{4}"
    r")(?![0-9])"
)
_DIGITS = re.compile("[0-9]+")
_LONGEST_NAME_CHARS = max(map(len, _MONTH_NUMBERS))


def value_terms(text: str) -> Iterator[str]:
    """Yield a term for each number with separators and for each date in a text in lower case."""
    for match in _NUMBER.finditer(text):
        yield from _number_terms(match[0])
    for match in _DATE.finditer(text):
        yield from _date_terms(match, text)


def _number_terms(number: str) -> Iterator[str]:
    """Yield the number without separators of thousands; both readings of one that is ambiguous, such as 1,234."""
    grouped = None if number.startswith("0") else _GROUPED.fullmatch(number)
    if grouped is not None:
        yield _plain_number("".join(_DIGITS.findall(grouped[1])), grouped[3] or "")
    figures = _DIGITS.findall(number)
    if len(figures) == 2 and number[len(figures[0])] in ".,":
        yield _plain_number(*figures)


def _plain_number(integer: str, decimals: str) -> str:
    decimals = decimals.rstrip("0")
    return f"{integer.lstrip('0') or '0'}{'.' if decimals else ''}{decimals}"


def _date_terms(match: re.Match[str], text: str) -> Iterator[str]:
    """Yield a date as 2026-03-15; both readings of one that is ambiguous, such as 03/04/2026."""
    figures = [whole_number(digits) or 0 for digits in _DIGITS.findall(match[0])]
    if match["year"]:
        year, month, day = figures
    elif len(figures) == 3:
        day, month, year = figures
    else:
        day, year = figures
        name = match["name"] or _word_before(text, match.start())
        month = _MONTH_NUMBERS.get(name, 0)
    days = {(month, day), (day, month)} if "/" in match[0] and not match["year"] else {(month, day)}
    for month, day in sorted(days):
        if 1 <= month <= 12 and 1 <= day <= 31:
            yield f"{year:04}-{month:02}-{day:02}"


def _word_before(text: str, place: int) -> str:
    """Return the word in front of a place and the space there; empty if there is none."""
    text_before = text[max(0, place - _LONGEST_NAME_CHARS - 3) : place]
    return text_before.split()[-1].rstrip(".") if text_before.strip() and text_before[-1].isspace() else ""
