"""Formats of dates and times in spreadsheets, such as names of months and weekdays, or the characters 年月日.

Dates in other formats read better in ISO format, because the order of their numbers depends on a country.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Final

from portico_server.core.dataclass import dataclass
from portico_server.core.words import MONTHS
from portico_server.features.readers.list_numbers import chinese

_DAY_ZERO: Final = datetime(1899, 12, 30)
"""The day with the number 0 in spreadsheets."""

MAX_DAY: Final = 2_958_465
"""The number of the last day in spreadsheets: 31 December 9999."""

_LANGUAGE = re.compile(r"\[\$[^\]-]*-(?P<code>[0-9a-f]{1,8})\]", re.IGNORECASE)
_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|_.|\*.|\[[^\]]*\]|'
    r"(?P<part>y{2,4}|m{1,5}|d{1,4}|a{3,4}|h{1,2}|s{1,2}|am/pm|a/p)|(?P<end>;)|(?P<literal>.)",
    re.IGNORECASE | re.DOTALL,
)
_TENTHS = re.compile(r"s\]?\.(0{1,6})", re.IGNORECASE)
_HALF_DAYS = re.compile(r"am/pm|a/p", re.IGNORECASE)
_IS_WEEKDAY = re.compile(r"(?:a{3,4}|d{3,4})(?:;@)?", re.IGNORECASE)
_HAS_NAMES = re.compile(r"mmm|ddd|aaa|[年月日]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Names:
    """Names of months from January and of weekdays from Monday, and their short forms."""

    months: Sequence[str]
    weekdays: Sequence[str]
    short_months: Sequence[str]
    short_weekdays: Sequence[str]


_ENGLISH_MONTHS: Final = tuple(name.title() for name in MONTHS)
_ENGLISH_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
GERMAN_MONTHS: Final = (
    "Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November",
    "Dezember",
)  # fmt: skip
_GERMAN_DAYS: Final = (
    "Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag",
)  # fmt: skip
_CHINESE_MONTHS: Final = tuple(f"{chinese(number)}月" for number in range(1, 13))
_CHINESE_DAYS: Final = tuple(f"星期{digit}" for digit in "一二三四五六日")
_ENGLISH: Final = _Names(
    _ENGLISH_MONTHS,
    _ENGLISH_DAYS,
    [month[:3] for month in _ENGLISH_MONTHS],
    [day[:3] for day in _ENGLISH_DAYS],
)
_LANGUAGES: Final[Mapping[int, _Names]] = {
    0x04: _Names(_CHINESE_MONTHS, _CHINESE_DAYS, _CHINESE_MONTHS, [day[-1] for day in _CHINESE_DAYS]),
    0x07: _Names(
        GERMAN_MONTHS,
        _GERMAN_DAYS,
        [month[:3] for month in GERMAN_MONTHS],
        [day[:2] for day in _GERMAN_DAYS],
    ),
    0x09: _ENGLISH,
}
"""Names by the primary language of a code of Windows, its lower ten bits."""


@dataclass(frozen=True, slots=True)
class _DateFormat:
    """The kinds and texts of the pieces of a format, and its names. It may show the number of a day as a weekday."""

    pieces: Sequence[tuple[str, str]]
    names: _Names
    is_weekday: bool


def format_date(cell: object, number_format: str) -> str | None:
    """Return a date, or the number of a day, in a format with names; ``None`` for other formats and languages."""
    form = _date_format(number_format)
    if form is None:
        return None
    if (
        isinstance(cell, int | float)
        and not isinstance(cell, bool)
        and form.is_weekday
        and 0 < cell <= MAX_DAY
    ):
        cell = _DAY_ZERO + timedelta(days=cell)
    if not isinstance(cell, date):
        return None
    moment = cell if isinstance(cell, datetime) else datetime(cell.year, cell.month, cell.day)
    parts = _parts(moment, form.names)
    shown_text = "".join(parts.get(text, text) if kind == "part" else text for kind, text in form.pieces)
    return " ".join(shown_text.split())


def format_moment(cell: date | time, number_format: str) -> str | None:
    """Return the parts of a date or a time that a format shows, in ISO format; ``None`` if it shows none of them.

    Seconds are rounded to the decimals of the format. A month and a day need their year.
    """
    letters = _letters(number_format)
    tenths = _TENTHS.search(number_format)
    moment = _rounded(cell, len(tenths[1]) if tenths else 0)
    texts: list[str] = []
    if isinstance(cell, date) and letters & {*"ymd"}:
        texts.append(moment.date().isoformat()[: 10 if "d" in letters else 7 if "m" in letters else 4])
    if letters & {*"hins"} and (isinstance(cell, time | datetime) or not texts):
        shown_time = moment.time().isoformat("microseconds")
        decimals_end = len("00:00:00.") + len(tenths[1]) if tenths else len("00:00:00")
        texts.append(shown_time[: decimals_end if "s" in letters else len("00:00")])
    return " ".join(texts) or None


def _rounded(cell: date | time, decimals: int) -> datetime:
    if isinstance(cell, time):
        moment = datetime.combine(date.min, cell)
    elif isinstance(cell, datetime):
        moment = cell
    else:
        return datetime(cell.year, cell.month, cell.day)
    fraction = round(moment.microsecond, decimals - 6)
    try:
        return moment.replace(microsecond=0) + timedelta(microseconds=fraction)
    except OverflowError:
        return moment.replace(microsecond=0)  # the last second of the year 9999


@lru_cache(maxsize=256)
def _letters(number_format: str) -> frozenset[str]:
    """Return the first letters of the parts of a format, as in `_pieces`."""
    return frozenset(text[0] for kind, text in _pieces(number_format) if kind == "part")


@lru_cache(maxsize=256)
def _date_format(number_format: str) -> _DateFormat | None:
    if _HAS_NAMES.search(number_format) is None:
        return None
    code = _LANGUAGE.search(number_format)
    names = _ENGLISH if code is None else _LANGUAGES.get(int(code["code"], 16) & 0x3FF)
    if names is None:
        return None
    is_weekday = _IS_WEEKDAY.fullmatch(_LANGUAGE.sub("", number_format)) is not None
    return _DateFormat(_pieces(number_format), names, is_weekday)


def _pieces(number_format: str) -> Sequence[tuple[str, str]]:
    """Return the kinds and texts of the pieces of a format. ``n`` are minutes, which a format writes like months: they
    follow hours or precede seconds. ``i`` are hours of half a day.
    """
    pieces: list[tuple[str, str]] = []
    part_places: list[int] = []
    has_half_days = _HALF_DAYS.search(number_format) is not None
    for match in _TOKEN.finditer(number_format):
        if match.lastgroup == "end":
            break
        if match.lastgroup != "part":
            pieces.append(("text", match[match.lastgroup] if match.lastgroup else " " * (match[0][0] == "_")))
            continue
        text = match["part"].lower()
        last_part = pieces[part_places[-1]][1] if part_places else ""
        if text in ("m", "mm") and last_part[:1] in ("h", "i"):
            text = "n" * len(text)
        elif text[0] == "s" and last_part in ("m", "mm"):
            pieces[part_places[-1]] = ("part", "n" * len(last_part))
        elif text[0] == "h" and has_half_days:
            text = "i" * len(text)
        part_places.append(len(pieces))
        pieces.append(("part", text))
    return pieces


def _parts(moment: datetime, names: _Names) -> Mapping[str, str]:
    """Return the texts of the parts of a format."""
    month, weekday = moment.month - 1, moment.weekday()
    half_day = "AM" if moment.hour < 12 else "PM"
    parts = {
        "yyyy": f"{moment.year:04}",
        "yyy": f"{moment.year:04}",
        "yy": f"{moment.year % 100:02}",
        "mmmm": names.months[month],
        "mmm": names.short_months[month],
        "mmmmm": names.months[month][0],
        "dddd": names.weekdays[weekday],
        "ddd": names.short_weekdays[weekday],
        "aaaa": _CHINESE_DAYS[weekday],
        "aaa": _CHINESE_DAYS[weekday][-1],
        "am/pm": half_day,
        "a/p": half_day[0],
    }
    numbers = {
        "m": moment.month,
        "d": moment.day,
        "h": moment.hour,
        "i": (moment.hour + 11) % 12 + 1,
        "n": moment.minute,
        "s": moment.second,
    }
    for letter, number in numbers.items():
        parts |= {letter: str(number), 2 * letter: f"{number:02}"}
    return parts
