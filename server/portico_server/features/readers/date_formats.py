"""Formats of dates in spreadsheets that show names of months or weekdays, or the characters 年月日.

Dates in other formats read better in ISO format, because the order of their numbers depends on a country.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Final

from portico_server.core.dataclass import dataclass

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
_IS_WEEKDAY = re.compile(r"(?:a{3,4}|d{3,4})(?:;@)?", re.IGNORECASE)
_HAS_NAMES = re.compile(r"mmm|ddd|aaa|[年月日]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Names:
    """Names of months and weekdays, from January and Monday, and the length of the short forms."""

    months: Sequence[str]
    weekdays: Sequence[str]
    short_months: Sequence[str]
    short_weekdays: Sequence[str]


def _names(months: str, weekdays: str, month_length: int, weekday_length: int) -> _Names:
    month_names, weekday_names = months.split(), weekdays.split()
    return _Names(
        month_names,
        weekday_names,
        [name[:month_length] for name in month_names],
        [name[-1:] if weekday_length < 0 else name[:weekday_length] for name in weekday_names],
    )


_ENGLISH: Final = _names(
    "January February March April May June July August September October November December",
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    3,
    3,
)
_CHINESE: Final = _names(
    "一月 二月 三月 四月 五月 六月 七月 八月 九月 十月 十一月 十二月",
    "星期一 星期二 星期三 星期四 星期五 星期六 星期日",
    3,
    -1,
)
_LANGUAGES: Final[Mapping[int, _Names]] = {
    0x09: _ENGLISH,
    0x04: _CHINESE,
    0x07: _names(
        "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
        "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
        3,
        2,
    ),
}
"""Names by the primary language of a code of Windows, its lower ten bits."""


def format_date(cell: object, number_format: str) -> str | None:
    """Return a date, or the number of a day, in a format with names; ``None`` for other formats and languages."""
    if _HAS_NAMES.search(number_format) is None:
        return None
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        is_weekday = _IS_WEEKDAY.fullmatch(_LANGUAGE.sub("", number_format)) is not None
        cell = _DAY_ZERO + timedelta(days=cell) if is_weekday and 0 < cell <= MAX_DAY else cell
    if not isinstance(cell, date):
        return None
    code = _LANGUAGE.search(number_format)
    names = _ENGLISH if code is None else _LANGUAGES.get(int(code["code"], 16) & 0x3FF)
    if names is None:
        return None
    moment = cell if isinstance(cell, datetime) else datetime(cell.year, cell.month, cell.day)
    pieces = (_written(piece, moment, names) for piece in _pieces(number_format))
    return " ".join("".join(pieces).split())


@lru_cache(maxsize=256)
def _pieces(number_format: str) -> Sequence[tuple[str, str]]:
    """Return the kinds and texts of the pieces of a format. ``n`` are minutes, which a format writes like months."""
    pieces: list[tuple[str, str]] = []
    has_half_days = re.search("am/pm|a/p", number_format, re.IGNORECASE) is not None
    for match in _TOKEN.finditer(number_format):
        if match.lastgroup == "end":
            break
        text = match["part"].lower() if match["part"] else ""
        if text[:1] == "m" and len(text) < 3 and _clock_before(pieces):
            text = text.replace("m", "n")
        elif text[:1] == "s":
            pieces = [
                (kind, "n" * len(part))
                if kind == "part" and index == _last_part(pieces) and part in ("m", "mm")
                else (kind, part)
                for index, (kind, part) in enumerate(pieces)
            ]
        elif text[:1] == "h" and has_half_days:
            text = text.replace("h", "i")
        if text:
            pieces.append(("part", text))
        elif match.lastgroup is not None:
            pieces.append(("text", match[match.lastgroup]))
        elif match[0][0] == "_":
            pieces.append(("text", " "))
    return pieces


def _last_part(pieces: Sequence[tuple[str, str]]) -> int:
    return max((index for index, (kind, _) in enumerate(pieces) if kind == "part"), default=-1)


def _clock_before(pieces: Sequence[tuple[str, str]]) -> bool:
    last = _last_part(pieces)
    return last >= 0 and pieces[last][1][0] in "hi"


def _written(piece: tuple[str, str], moment: datetime, names: _Names) -> str:
    kind, text = piece
    if kind == "text":
        return text
    return dict(_parts(moment, names)).get(text, text)


def _parts(moment: datetime, names: _Names) -> Iterator[tuple[str, str]]:
    yield from (
        ("yyyy", f"{moment.year:04}"),
        ("yyy", f"{moment.year:04}"),
        ("yy", f"{moment.year % 100:02}"),
    )
    yield from (("mmmm", names.months[moment.month - 1]), ("mmm", names.short_months[moment.month - 1]))
    yield "mmmmm", names.months[moment.month - 1][:1]
    weekday = names.weekdays[moment.weekday()]
    short_weekday = names.short_weekdays[moment.weekday()]
    yield from (("dddd", weekday), ("ddd", short_weekday))
    chinese_weekday = _CHINESE.weekdays[moment.weekday()]
    yield from (("aaaa", chinese_weekday), ("aaa", chinese_weekday[-1:]))
    numbers = {"m": moment.month, "d": moment.day, "h": moment.hour, "n": moment.minute, "s": moment.second}
    numbers["i"] = (moment.hour + 11) % 12 + 1
    for letter, number in numbers.items():
        yield from ((letter, str(number)), (2 * letter, f"{number:02}"))
    half_day = "AM" if moment.hour < 12 else "PM"
    yield from (("am/pm", half_day), ("a/p", half_day[:1]))
