"""Dates and times of day in a sentence, which an answer must not change. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from portico_server.core.words import MONTHS
from portico_server.features.answers.chinese_numbers import chinese_number
from portico_server.features.answers.times import find_times

_WEEKDAY_NAMES = "monday tuesday wednesday thursday friday saturday sunday"
WEEKDAYS: Final = tuple(_WEEKDAY_NAMES.split())
MONTH_NUMBERS = {name: number for number, name in enumerate(MONTHS, 1)}
MONTH_NUMBERS |= {name[:3]: number for name, number in MONTH_NUMBERS.items()} | {"sept": 9}

_MONTH = "|".join(sorted(MONTH_NUMBERS, key=len, reverse=True))
_ZH_DIGIT = "零〇一二三四五六七八九"
_DATE = re.compile(
    r"(?<!\d)(?P<iso>(?P<iy>[12]\d{3})[-/.](?P<im>\d{1,2})[-/.](?P<id>\d{1,2}))(?!\d)"
    rf"|\b(?:(?P<d1>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?)?(?P<m1>{_MONTH})\b\.?(?:\s+(?P<d2>\d{{1,2}})(?:st|nd|rd|th)?(?!\d))?"
    r"(?:,?\s+(?P<y1>[12]\d{3}))?"
    rf"|(?:(?P<y2>[12]\d{{3}}|[{_ZH_DIGIT}]{{4}})年)(?:(?P<m2>\d{{1,2}}|[一二三四五六七八九十]{{1,2}})月)?"
    r"(?:(?P<d3>\d{1,2}|[一二三四五六七八九十]{1,3})[日号])?"
    r"|(?P<m3>\d{1,2}|[一二三四五六七八九十]{1,2})月(?:(?P<d4>\d{1,2}|[一二三四五六七八九十]{1,3})[日号])?"
    r"|(?<![\w.,$€£])(?P<decade>[12]\d{2}0)(?:s\b|年代)"
    r"|(?P<century>\d{1,2}|[一二三四五六七八九十]{1,3})(?:(?:st|nd|rd|th)[\s-]+centur(?:y|ies)|世纪)(?:(?P<zd>\d0|[一二三四五六七八九]十)年代)?"
    r"|(?<![\w.,$€£-])(?P<year>1[1-9]\d{2}|20\d{2})(?!\d|,\d|\.\d|[\u4e00-\u9fff]|\s?(?:%|metre|meter|miles|km|kg|people|points))"
    rf"|\b(?P<weekday>{'|'.join(WEEKDAYS)})s?\b"
    r"|(?:星期|周|礼拜)(?P<zweekday>[一二三四五六日天])"
)


def find_dates(text: str) -> Iterator[tuple[int, int, frozenset[str]]]:
    """Yield the positions of dates and times of day in folded ``text`` and their parts, such as ``y1994``, ``m5``,
    ``d15``, ``c19``. `find_times` describes the parts of times.
    """
    yield from find_times(text)
    for match in _DATE.finditer(text):
        group = match.groupdict()
        if group["m1"] == "may" and not (group["d1"] or group["d2"] or group["y1"]):
            continue  # the verb
        if group["m1"] in ("mar", "jun", "sun", "march", "dec") and not (
            group["d1"] or group["d2"] or group["y1"]
        ):
            continue
        parts = set()
        for names, letter in (
            (("iy", "y1", "y2", "year"), "y"),
            (("im", "m1", "m2", "m3"), "m"),
            (("id", "d1", "d2", "d3", "d4"), "d"),
        ):
            for name in names:
                if group[name]:
                    parts.add(f"{letter}{_date_number(group[name])}")
        if group["decade"]:
            parts.add(f"e{group['decade']}")
        if group["century"]:
            century = _date_number(group["century"])
            parts.add(f"e{(century - 1) * 100 + _date_number(group['zd'])}" if group["zd"] else f"c{century}")
        if group["weekday"]:
            parts.add(f"w{WEEKDAYS.index(group['weekday']) + 1}")
        if group["zweekday"]:
            parts.add(f"w{'一二三四五六日'.find(group['zweekday'].replace('天', '日')) + 1}")
        yield match.start(), match.end(), frozenset(parts)


def _date_number(text: str) -> int:
    if text in MONTH_NUMBERS:
        return MONTH_NUMBERS[text]
    return int(text) if text.isascii() else int(chinese_number(text) or 0)


def dates_in(text: str) -> frozenset[str]:
    """Return the parts of the dates in folded ``text``."""
    return frozenset(part for _start, _end, parts in find_dates(text) for part in parts)
