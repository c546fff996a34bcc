"""Numbers in a sentence with their units, in English and Chinese. An answer must not change them. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping

from portico_server.core.dataclass import dataclass
from portico_server.features.answers.chinese_numbers import CHINESE_SCALES, CHINESE_UNITS, chinese_number
from portico_server.features.answers.dates import find_dates
from portico_server.features.answers.relevance import STOP_WORDS, stem
from portico_server.features.answers.terms import has_cjk

_FIRST_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_ONES = {name: value for value, name in enumerate(_FIRST_TWENTY.split())}
_TENS_NAMES = "twenty thirty forty fifty sixty seventy eighty ninety"
_TENS = {name: 10 * value for value, name in enumerate(_TENS_NAMES.split(), 2)}
_SCALES = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
NUMBER_WORDS = frozenset((*_ONES, *_TENS, *_SCALES))
"""English words that are numbers or parts of numbers."""

_ORDINAL_NAMES = "first second third fourth fifth sixth seventh eighth ninth tenth"
_ORDINALS = {name: value for value, name in enumerate(_ORDINAL_NAMES.split(), 1)}
_NUMBER_WORD = "|".join((*_ONES, *_TENS))
_WORDS = rf"(?:{_NUMBER_WORD})(?:[\s-]+(?:and\s+)?(?:{_NUMBER_WORD}|{'|'.join(_SCALES)}))*"
_NUMBER = re.compile(
    r"(?<![a-z0-9.])(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)(?P<ordinal>st|nd|rd|th)?(?![0-9])"
    rf"\s?(?P<scale>{'|'.join(_SCALES)}|万亿|[千百]?[万亿])?"
    rf"|\b(?P<words>{_WORDS})\b"
    rf"|\b(?P<nth>{'|'.join(_ORDINALS)})\b"
    r"|(?P<zh>百分之[零〇一二两三四五六七八九十百点\d.]+|[零〇一二两三四五六七八九十百千万亿]*[零〇一二两三四五六七八九十百千万亿]"
    r"(?:点[零〇一二两三四五六七八九]+)?)",
)
_NOT_A_NUMBER_ZH = re.compile(
    r"(?<![零〇二三四五六七八九十百千万])一(?:些|般|样|直|起|定|旦|切|致|方面|边|度|下|种|个|名|位|家|座|场|次|条|部|项|系列|生|带|级|同|并|向|律|片|点|面|时|再|半|共|来)"
    r"|十分|万一|千万不|万物|百姓|百科|统一|唯一|之一|同一|第一手|进一步|九龙|三明|四川|五角|八卦|千克|千米|百度|亿万|万圣|两者|两岸|四分卫|三分球|[二两]分"
)
"""Chinese words that contain a numeral but count nothing."""

_UNIT_NAMES: Mapping[str, str] = {
    "%": "% percent per-cent 百分之",
    "km": "km kilometre kilometer 公里 千米",
    "m": "m metre meter 米 公尺",
    "cm": "cm centimetre centimeter 厘米",
    "mm": "mm millimetre millimeter 毫米",
    "mi": "mile 英里",
    "ft": "ft feet foot 英尺",
    "kg": "kg kilogram kilo 公斤 千克",
    "g": "g gram 克",
    "t": "tonne ton 吨",
    "s": "s sec second 秒",
    "min": "min minute 分钟",
    "h": "h hr hour 小时",
    "day": "day 天",
    "week": "week 周 星期 礼拜",
    "month": "month 个月",
    "year": "year yr 年",
    "kb": "kb kib kilobyte",
    "mb": "mb mib megabyte",
    "gb": "gb gib gigabyte",
    "tb": "tb tib terabyte",
    "°c": "°c celsius 摄氏度 ℃",
    "°f": "°f fahrenheit 华氏度 ℉",
    "$": "$ dollar usd 美元",
    "€": "€ euro eur 欧元",
    "£": "£ pound gbp 英镑",
    "cny": "yuan rmb cny 元 人民币",
    "ms": "ms millisecond 毫秒",
}
_BASES: Mapping[str, tuple[str, float]] = {
    "km": ("m", 1e3),
    "cm": ("m", 1e-2),
    "mm": ("m", 1e-3),
    "mi": ("m", 1609.344),
    "ft": ("m", 0.3048),
    "kg": ("g", 1e3),
    "t": ("g", 1e6),
    "year": ("month", 12.0),
    "ms": ("s", 1e-3),
    "min": ("s", 60.0),
    "h": ("s", 3600.0),
    "day": ("s", 86_400.0),
    "week": ("s", 604_800.0),
    "mb": ("kb", 1e3),
    "gb": ("kb", 1e6),
    "tb": ("kb", 1e9),
}
"""For each derived unit, its base unit and the number of base units."""

_UNITS = {name: unit for unit, names in _UNIT_NAMES.items() for name in names.split()}
_UNIT_NAMES_ZH = "|".join(sorted((unit for unit in _UNITS if has_cjk(unit)), key=len, reverse=True))
_UNIT_ZH = re.compile(rf"(?P<unit>{_UNIT_NAMES_ZH})半?|个半(?P<halved>小时|星期|礼拜)")
"""A unit, which may have a half after or before it: 一年半, 两个半小时."""

_INDEFINITE_UNITS = frozenset(("day", "week", "month", "year"))
"""Units before which 一 seldom counts, as in 一年一度."""
_BEHIND = re.compile(
    r"[\s-]*(?:(?P<sign>[%$€£°℃℉][cf]?)|(?P<word>[a-z]+)(?:\s+(?P<next>[a-z]+))?|(?P<cjk>[\u4e00-\u9fff]))"
)
_MONEY_BEFORE = re.compile(r"[$€£]\s?$")
_ABOUT = re.compile(
    r"\b(?:about|around|approximately|nearly|almost|roughly|over|more than|some|up to|under|less than|at least)\s+$"
    r"|(?:约|大约|近|将近|超过|逾|多达|至少|不到|接近)$"
)
_ABOUT_TOLERANCE_RATIO = 0.05
_EQUAL_TOLERANCE_RATIO = 1e-9
"""Tolerance of an approximate and of a precise number, as a share of the number."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number, its unit (``""`` if unknown), the stem of the counted noun, and whether the number is approximate."""

    value: float
    unit: str = ""
    counted: str = ""
    about: bool = False
    surface: str = ""
    span: tuple[int, int] = (0, 0)
    """The offsets of the number and its unit in the text."""

    @property
    def base_unit(self) -> str:
        return _BASES.get(self.unit, (self.unit, 1.0))[0]

    @property
    def base_value(self) -> float:
        """Return the number in base units, so that 2 h equal 120 min."""
        return self.value * _BASES.get(self.unit, ("", 1.0))[1]

    def equals(self, other: Quantity) -> bool:
        """Return whether the numbers are equal. Units that convert into each other are converted."""
        if self.base_unit and self.base_unit == other.base_unit:
            value, other_value = self.base_value, other.base_value
        else:
            value, other_value = self.value, other.value
        tolerance = _ABOUT_TOLERANCE_RATIO if self.about else _EQUAL_TOLERANCE_RATIO
        return abs(value - other_value) <= tolerance * abs(value)


def quantities_in(text: str) -> tuple[Quantity, ...]:
    """Return the numbers in folded ``text``, except those in dates."""
    skipped_spans = [match.span() for match in _NOT_A_NUMBER_ZH.finditer(text)] if has_cjk(text) else []
    skipped_spans += [(start, end) for start, end, _parts in find_dates(text)]
    quantities = []
    for match in _NUMBER.finditer(text):
        if any(start < match.end() and match.start() < end for start, end in skipped_spans):
            continue
        value = _value(match)
        if value is None:
            continue
        unit, counted_stem, end = _behind(text, match.end())
        has_half = "半" in text[match.end() : end]
        if match["zh"] in CHINESE_UNITS and not unit:
            continue
        if match["zh"] == "一" and not has_half and (not unit or unit in _INDEFINITE_UNITS):
            continue
        value += 0.5 if has_half else 0.0
        if match["zh"] and match["zh"].startswith("百分之"):
            unit = "%"
        elif (money := _MONEY_BEFORE.search(text, max(0, match.start() - 2), match.start())) is not None:
            unit = _UNITS[money.group().strip()]
        about = _ABOUT.search(text, max(0, match.start() - 16), match.start()) is not None
        surface = match.group().strip()
        quantities.append(Quantity(value, unit, counted_stem, about, surface, (match.start(), end)))
    return tuple(quantities)


def _value(match: re.Match[str]) -> float | None:
    if match["digits"] is not None:
        value = float(match["digits"].replace(",", ""))
        scale = match["scale"] or ""
        for name in re.findall("|".join((*_SCALES, *CHINESE_SCALES, *CHINESE_UNITS)), scale):
            value *= _SCALES.get(name) or CHINESE_SCALES.get(name) or CHINESE_UNITS[name]
        return value
    if match["nth"] is not None:
        return float(_ORDINALS[match["nth"]]) if match["nth"] != "second" else None
    if match["words"] is not None:
        return None if match["words"] == "one" else number_of_words(match["words"])
    numeral = match["zh"].removeprefix("百分之")
    if numeral in CHINESE_SCALES:
        return None
    return chinese_number(numeral)


def number_of_words(text: str) -> float:
    """Return the number that English words name."""
    total = now = 0.0
    for word in re.findall(r"[a-z]+", text):
        if word in _SCALES:
            now = max(now, 1) * _SCALES[word]
            if _SCALES[word] > 100:
                total, now = total + now, 0.0
        else:
            now += _ONES.get(word, 0) + _TENS.get(word, 0)
    return total + now


def _behind(text: str, end: int) -> tuple[str, str, int]:
    """Return the unit that follows a number, the stem of the counted noun, and where the unit ends."""
    match = _BEHIND.match(text, end)
    if match is None:
        return "", "", end
    if match["sign"]:
        return _UNITS.get(match["sign"], match["sign"]), "", match.end()
    if match["cjk"]:
        measure = _UNIT_ZH.match(text, match.start("cjk"))
        if measure is None:
            return "", match["cjk"], end
        return _UNITS[measure["unit"] or measure["halved"]], "", measure.end()
    word = match["word"]
    unit_name = _UNITS.get(word) or _UNITS.get(word.removesuffix("s")) or ""
    counted_stem = word if word not in STOP_WORDS else match["next"] or ""
    return (
        unit_name,
        "" if counted_stem in STOP_WORDS else stem(counted_stem),
        match.end("word") if unit_name else end,
    )


def number_missing(claim: tuple[Quantity, ...], source: tuple[Quantity, ...], text: str) -> bool:
    """Return whether a number in a claim is missing from its source, or counts something else there; ``text`` is the
    source's text.
    """
    return any(not _is_held(quantity, source, text) for quantity in claim)


def _is_held(wanted_quantity: Quantity, source: tuple[Quantity, ...], text: str) -> bool:
    equal = [quantity for quantity in source if wanted_quantity.equals(quantity)]
    if not equal:
        # The characters of the number may also occur within a longer word or an address, which does not
        # contain the number.
        return (
            len(wanted_quantity.surface) > 1
            and re.search(rf"(?<![\d.,]){re.escape(wanted_quantity.surface)}(?![\d]|[.,]\d)", text)
            is not None
            and not any(quantity.surface == wanted_quantity.surface for quantity in source)
        )
    matching_quantities = [
        quantity
        for quantity in equal
        if not (quantity.unit and wanted_quantity.unit) or quantity.base_unit == wanted_quantity.base_unit
    ]
    if not matching_quantities:
        return False
    if not wanted_quantity.counted or any(
        quantity.counted == wanted_quantity.counted or not quantity.counted
        for quantity in matching_quantities
    ):
        return True
    # The source uses this number for something else, and a different number for the same thing.
    return not any(quantity.counted == wanted_quantity.counted for quantity in source)
