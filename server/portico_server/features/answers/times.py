"""Times of day in a sentence, in English and Chinese. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from portico_server.features.answers.chinese_numbers import chinese_number

_MINUTES_PER_DAY, _MINUTES_PER_HALF_DAY = 1_440, 720
_TIME = re.compile(
    r"(?<![a-z0-9.:,])(?P<clock>\d{1,2})(?:[:.](?P<clock_minute>[0-5]\d))?"
    r"(?:\s?(?P<half>[ap])\.?m\b\.?|(?=\s?(?:-|–|to|until|till|and)\s?(?P<later_clock>\d{1,2})(?:[:.][0-5]\d)?\s?(?P<later_half>[ap])\.?m\b))"
    r"|(?<![a-z0-9.:,])(?P<hour>\d{1,2})\s?o['’]clock\b"
    r"|(?P<part>凌晨|清晨|早晨|早上|上午|中午|下午|傍晚|晚上|晚间|夜间|夜里|早|晚)?"
    r"(?:(?<![a-z0-9.:,])(?P<hour24>[01]?\d|2[0-4])[:：](?P<minute24>[0-5]\d)(?![\d:：])"
    r"|(?:(?<=[周期拜][一二三四五六日天])|(?<![第\d.零一二三四五六七八九十百]))(?P<hour_zh>\d{1,2}|[一二两三四五六七八九]|[一二]?十[一二三四五六七八九]?)(?P<mark>点|时(?!间))"
    r"(?P<minute_zh>半|[一三]刻|(?:[0-5]?\d|[二三四五]?十[一二三四五六七八九]?|[零〇][一二三四五六七八九])分?|整|钟)?"
    r"(?P<after>(?=[开关闭到至前后起止发停结营上下和与、，。；;,—–~～)）-]|$))?)"
)
_RANGE_ZH = re.compile(r"\s?(?:到|至|-|—|–|~|～)+\s?$")
_MORNING = frozenset(("凌晨", "清晨", "早晨", "早上", "上午", "早"))


def find_times(text: str) -> Iterator[tuple[int, int, frozenset[str]]]:
    """Yield the positions of times of day in folded ``text`` and their parts, in minutes: ``t1020`` and ``o300`` for
    17:00, and only ``o300`` for 五点, which does not say which half of the day it means.
    """
    part, part_end = "", 0
    for match in _TIME.finditer(text):
        if match["hour_zh"] and not (match["part"] or match["minute_zh"] or match["after"] is not None):
            continue  # three points rather than three o'clock
        if match["part"]:
            part = match["part"]
        elif not (part and _RANGE_ZH.search(text, part_end, match.start())):
            part = ""
        part_end = match.end()
        minutes, is_sure = _minutes(match, part)
        if minutes > _MINUTES_PER_DAY:
            continue
        sure_part = [f"t{minutes % _MINUTES_PER_DAY}"] if is_sure else []
        yield match.start(), match.end(), frozenset([*sure_part, f"o{minutes % _MINUTES_PER_HALF_DAY}"])


def _minutes(match: re.Match[str], part: str) -> tuple[int, bool]:
    """Return the minutes since midnight, and whether the half of the day is certain."""
    if match["clock"]:
        hour, minute = int(match["clock"]) % 12, int(match["clock_minute"] or 0)
        is_afternoon = (match["half"] or match["later_half"]) == "p"
        if match["later_half"] and hour > int(match["later_clock"]) % 12:
            is_afternoon = not is_afternoon
        return (hour + (12 if is_afternoon else 0)) * 60 + minute, True
    if match["hour"]:
        return int(match["hour"]) * 60, False
    if match["hour24"]:
        hour, minute = int(match["hour24"]), int(match["minute24"])
    else:
        hour, minute = int(chinese_number(match["hour_zh"]) or 0), _minutes_zh(match["minute_zh"] or "")
    if part and part not in _MORNING and hour < 12 and not (part == "中午" and hour > 9):
        hour += 12
    is_sure = bool(part) or match["hour24"] is not None or hour > 12 or match["mark"] == "时"
    return hour * 60 + minute, is_sure


def _minutes_zh(text: str) -> int:
    if text == "半":
        return 30
    if text.endswith("刻"):
        return 15 if text[0] == "一" else 45
    return int(chinese_number(text.removesuffix("分")) or 0) if text not in ("", "整", "钟") else 0
