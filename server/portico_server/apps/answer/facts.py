"""What a sentence may not change of its source: numbers with their units, dates, names and negations. Pure functions.

English and Chinese. Texts are folded (`terms.fold`) but for `names`, which needs the capitals.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from portico_server.apps.answer.terms import has_cjk, stems, tagged
from portico_server.apps.language import CJK
from portico_server.apps.relevance import STOP_WORDS, stem
from portico_server.core.dataclass import dataclass
from portico_server.core.words import MONTHS

# --- numbers --------------------------------------------------------------------------------------------------

_FIRST_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_ONES = {name: value for value, name in enumerate(_FIRST_TWENTY.split())}
_TENS_NAMES = "twenty thirty forty fifty sixty seventy eighty ninety"
_TENS = {name: 10 * value for value, name in enumerate(_TENS_NAMES.split(), 2)}
_SCALES = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
NUMBER_WORDS = frozenset((*_ONES, *_TENS, *_SCALES))
"""English words that are numbers, or parts of them."""

_ORDINAL_NAMES = "first second third fourth fifth sixth seventh eighth ninth tenth"
_ORDINALS = {name: value for value, name in enumerate(_ORDINAL_NAMES.split(), 1)}
_DIGITS_ZH = {char: value for value, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "幺": 1}
_UNITS_ZH = {"十": 10, "百": 100, "千": 1000}
_SCALES_ZH = {"万": 1e4, "亿": 1e8, "兆": 1e12}

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
    r"一(?:些|般|样|直|起|定|旦|切|致|方面|边|度|下|种|个|名|位|家|座|场|次|条|部|项|系列|生|带|级|同|并|向|律|片|点|面|时|再|半|共|来)"
    r"|十分|万一|千万不|万物|百姓|百科|统一|唯一|之一|同一|第一手|进一步|九龙|三明|四川|五角|八卦|千克|千米|百度|亿万|万圣|两者|两岸|四分卫|三分球|[二两]分"
)
"""Words with a numeral in which nothing is counted."""

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
_UNITS = {name: unit for unit, names in _UNIT_NAMES.items() for name in names.split()}
_UNIT_ZH = re.compile("|".join(sorted((u for u in _UNITS if has_cjk(u)), key=len, reverse=True)))
_BEHIND = re.compile(
    r"[\s-]*(?:(?P<sign>[%$€£°℃℉][cf]?)|(?P<word>[a-z]+)(?:\s+(?P<next>[a-z]+))?|(?P<cjk>[\u4e00-\u9fff]{1,3}))"
)
_MONEY_BEFORE = re.compile(r"[$€£]\s?$")
_ABOUT = re.compile(
    r"\b(?:about|around|approximately|nearly|almost|roughly|over|more than|some|up to|under|less than|at least)\s+$"
    r"|(?:约|大约|近|将近|超过|逾|多达|至少|不到|接近)$"
)
_ABOUT_TOLERANCE_RATIO = 0.05
"""How far a number that is said to be approximate may be off, as a part of it."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number, its unit ("" if none is known), the stem of what is counted, and whether it is an approximate one."""

    value: float
    unit: str = ""
    counted: str = ""
    about: bool = False
    surface: str = ""


def quantities(text: str) -> tuple[Quantity, ...]:
    """The numbers of folded ``text``, without those of its dates."""
    skipped = [match.span() for match in _NOT_A_NUMBER_ZH.finditer(text)] if has_cjk(text) else []
    skipped += [(start, end) for start, end, _parts in _dates(text)]
    found = []
    for match in _NUMBER.finditer(text):
        if any(start < match.end() and match.start() < end for start, end in skipped):
            continue
        value = _value(match)
        if value is None:
            continue
        unit, counted = _behind(text, match.end())
        if match["zh"] and match["zh"].startswith("百分之"):
            unit = "%"
        elif (money := _MONEY_BEFORE.search(text, max(0, match.start() - 2), match.start())) is not None:
            unit = _UNITS[money.group().strip()]
        about = _ABOUT.search(text, max(0, match.start() - 16), match.start()) is not None
        found.append(Quantity(value, unit, counted, about, match.group().strip()))
    return tuple(found)


def _value(match: re.Match[str]) -> float | None:
    if match["digits"] is not None:
        value = float(match["digits"].replace(",", ""))
        scale = match["scale"] or ""
        for name in re.findall("|".join((*_SCALES, *_SCALES_ZH, *_UNITS_ZH)), scale):
            value *= _SCALES.get(name) or _SCALES_ZH.get(name) or _UNITS_ZH[name]
        return value
    if match["nth"] is not None:
        return float(_ORDINALS[match["nth"]]) if match["nth"] != "second" else None
    if match["words"] is not None:
        return None if match["words"] == "one" else _of_words(match["words"])
    numeral = match["zh"].removeprefix("百分之")
    if len(numeral) == 1 and (numeral == "一" or numeral in _UNITS_ZH or numeral in _SCALES_ZH):
        return None
    return _of_chinese(numeral)


def _of_words(text: str) -> float:
    total = now = 0.0
    for word in re.findall(r"[a-z]+", text):
        if word in _SCALES:
            now = max(now, 1) * _SCALES[word]
            if _SCALES[word] > 100:
                total, now = total + now, 0.0
        else:
            now += _ONES.get(word, 0) + _TENS.get(word, 0)
    return total + now


def _of_chinese(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        pass
    whole, _, part = text.partition("点")
    if not any(char in _UNITS_ZH or char in _SCALES_ZH for char in whole):
        digits = "".join(str(_DIGITS_ZH.get(char, "")) for char in whole)
        fraction = "".join(str(_DIGITS_ZH.get(char, "")) for char in part)
        return float(f"{digits or 0}.{fraction or 0}")
    total = section = digit = 0.0
    for char in whole:
        if char in _DIGITS_ZH:
            digit = _DIGITS_ZH[char]
        elif char in _UNITS_ZH:
            section += (digit or 1) * _UNITS_ZH[char]
            digit = 0.0
        elif char in _SCALES_ZH:
            total = (total + section + digit or 1) * _SCALES_ZH[char]
            section = digit = 0.0
    fraction = "".join(str(_DIGITS_ZH.get(char, "")) for char in part)
    return total + section + digit + float(f"0.{fraction or 0}")


def _behind(text: str, end: int) -> tuple[str, str]:
    """The unit behind a number, and the stem of what is counted."""
    match = _BEHIND.match(text, end)
    if match is None:
        return "", ""
    if match["sign"]:
        return _UNITS.get(match["sign"], match["sign"]), ""
    if match["cjk"]:
        unit = _UNIT_ZH.match(match["cjk"])
        return (_UNITS[unit.group()], "") if unit is not None else ("", match["cjk"][:1])
    word = match["word"]
    unit_name = _UNITS.get(word) or _UNITS.get(word.removesuffix("s")) or ""
    counted = word if word not in STOP_WORDS else match["next"] or ""
    return unit_name, "" if counted in STOP_WORDS else stem(counted)


def number_missing(claim: tuple[Quantity, ...], source: tuple[Quantity, ...], text: str) -> bool:
    """Whether a number of a claim is not in its source, or counts something else there; ``text`` is the source's."""
    return any(not _is_held(wanted, source, text) for wanted in claim)


def _is_held(wanted: Quantity, source: tuple[Quantity, ...], text: str) -> bool:
    tolerance = abs(wanted.value) * (_ABOUT_TOLERANCE_RATIO if wanted.about else 1e-9)
    equal = [one for one in source if abs(one.value - wanted.value) <= tolerance]
    if not equal:
        # Within a longer word or an address there is no number, but there may be the same characters.
        return (
            len(wanted.surface) > 1
            and re.search(rf"(?<![\d.,]){re.escape(wanted.surface)}(?![\d]|[.,]\d)", text) is not None
            and not any(one.surface == wanted.surface for one in source)
        )
    same = [one for one in equal if not (one.unit and wanted.unit) or one.unit == wanted.unit]
    if not same:
        return False
    if not wanted.counted or any(one.counted == wanted.counted or not one.counted for one in same):
        return True
    # The source has the number for something else, and another number for this.
    return not any(one.counted == wanted.counted for one in source)


# --- dates ----------------------------------------------------------------------------------------------------

_WEEKDAY_NAMES = "monday tuesday wednesday thursday friday saturday sunday"
WEEKDAYS: Final = tuple(_WEEKDAY_NAMES.split())
_MONTH_NUMBER = {name: number for number, name in enumerate(MONTHS, 1)}
_MONTH_NUMBER |= {name[:3]: number for name, number in _MONTH_NUMBER.items()} | {"sept": 9}
_MONTH = "|".join(sorted(_MONTH_NUMBER, key=len, reverse=True))
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


def _dates(text: str) -> Iterator[tuple[int, int, frozenset[str]]]:
    """Where dates are in folded ``text``, and their parts, such as ``y1994``, ``m5``, ``d15``, ``c19``."""
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
    if text in _MONTH_NUMBER:
        return _MONTH_NUMBER[text]
    return int(text) if text.isascii() else int(_of_chinese(text) or 0)


def dates(text: str) -> frozenset[str]:
    """The parts of the dates in folded ``text``."""
    return frozenset(part for _start, _end, parts in _dates(text) for part in parts)


# --- names ----------------------------------------------------------------------------------------------------

_CODE = re.compile(
    r"`([^`\n]+)`|(?<!\S)(--?[a-zA-Z][\w-]*)|\b(https?://[^\s)\]>]+)|\b([A-Za-z0-9_-]+(?:[._/][A-Za-z0-9_-]+)+)\b"
)
_CAPITAL = re.compile(
    r"[A-Z](?:[\w’'-](?<![\u3400-\u9fff]))*|(?<![A-Za-z0-9])[a-z]+[A-Z][A-Za-z0-9]*|(?<![A-Za-z0-9])[A-Za-z0-9]*\d[A-Za-z][A-Za-z0-9]*"
)
_FIRST_WORD = re.compile(r"[\s\"'“‘(\[*_>#-]*")
_VERB_NEXT = re.compile(r"[\w’'-]+\s+(?:is|was|are|were|has|had|have|can|will|[a-z]+ed|[a-z]{3,}s)\b")
_FOREIGN_ZH = re.compile(rf"[{CJK}]{{0,4}}(?:[·・][{CJK}]{{1,5}})+")
"""A name that is written by its sound, with what may stand around it: nobody can tell where it begins and ends."""
_TITLE_ZH = re.compile(rf"《([^》]+)》|[{CJK}]{{1,2}}[·・][{CJK}]{{1,2}}|[A-Za-z][A-Za-z0-9_.-]+")
_COUNTED = re.compile(
    r"\d[\d.,]*[a-z%]{0,3}$|[零〇一二三四五六七八九十百千万亿]{2,}|第[一二三四五六七八九十]"
)
"""What begins as a number does: it is compared as one."""

_PLAIN = frozenset(("i", "the", "yes", "however", "also", *MONTHS, *WEEKDAYS))


@dataclass(frozen=True, slots=True)
class NameWord:
    """A word of a name, folded; ``certain``: not only because it begins a sentence. ``at``: where, from 0 to 1."""

    word: str
    certain: bool
    at: float = 0.0


def names(text: str, folded: str) -> tuple[NameWord, ...]:
    """The words of names, identifiers and code in ``text``; ``folded`` is the same folded."""
    found: dict[str, NameWord] = {}
    size = max(len(text), 1)
    for match in _CODE.finditer(text):
        code = next(group for group in match.groups() if group).strip().rstrip(".,:;").lower()
        if len(code) > 1 and not re.fullmatch(
            r"[\d.,/:-]+[a-z]?|and/or|e\.g|i\.e|[a-z]\.[a-z](?:\.[a-z])*", code
        ):
            found[code] = NameWord(code, match[1] is not None or not code.isalpha(), match.start() / size)
    first_match = _FIRST_WORD.match(text)
    first = first_match.end() if first_match is not None else 0
    for match in _CAPITAL.finditer(text):
        word = re.sub(r"[’']s?$", "", match.group()).lower()
        if len(word) < 2 or word in STOP_WORDS or word in _PLAIN or _COUNTED.fullmatch(word):
            continue
        following = text[match.end() : match.end() + 2].strip()
        begins = (
            match.start() == first
            and not following[:1].isupper()
            and not any(char.isupper() or char.isdigit() for char in match.group()[1:])
        )
        if begins and _VERB_NEXT.match(text, match.start()) is None:
            continue
        found.setdefault(word, NameWord(word, not begins, match.start() / size))
    if has_cjk(text):
        for match in _TITLE_ZH.finditer(folded):
            word = (match[1] or match.group()).strip()
            if len(word) > 1 and word not in STOP_WORDS and not _COUNTED.match(word):
                found.setdefault(word, NameWord(word, True, match.start() / size))
        for item in tagged(_FOREIGN_ZH.sub("，", folded)):
            if item.is_name and len(item.word) > 1 and not _COUNTED.match(item.word):
                found.setdefault(item.word, NameWord(item.word, True, folded.find(item.word) / size))
    return tuple(found.values())


def holds_name(name: NameWord, folded: str, terms: frozenset[str]) -> bool:
    """Whether folded text with these stems has a name."""
    if name.word in folded:
        return True
    return name.word.isalpha() and name.word.isascii() and stems([name.word])[0] in terms


# --- negations ------------------------------------------------------------------------------------------------

_NEGATION = re.compile(
    r"\b(?:not|no|never|none|neither|nor|without|cannot|nobody|nothing|nowhere|unable|fail(?:s|ed)?\s+to|"
    r"refus(?:es|ed)\s+to|hardly|lacks?|lacked)\b|n[’']t\b"
    r"|没有|没|无法|未能|未|不|无|非|勿|别(?![的人墅名])|否认|缺乏|从未|绝不|拒绝"
)
_NOT_A_NEGATION = re.compile(
    r"\bnot\s+(?:only|just|merely|necessarily)\b|\bno\s+(?:doubt|less|more|longer|fewer)\s+than\b|\bno\.\s?\d"
    r"|不仅|不但|不只|不止|不同|不少|不断|不过|不久|不论|不管|不得不|不如|不足|不料|不幸|不满|不错|不可避免|不可或缺|差不多|无论|无线|无数|"
    r"无疑|无人机|未来|未婚|非常|非洲|非法|非凡|是非|除非|并非常|不列颠|不丹|不动产|不锈|不朽|不等|毫不|毫无|要不|对不起|了不起|"
    r"不一(?=致|样)|不明|不当|不良|不安|不便|不利|不力|北非|南非|西非|东非|特别|区别|级别|性别|分别|个别|类别|告别|别墅"
)
_CLAUSE = re.compile(
    r",(?!\d)|[;:，；：、()（）—–]|\b(?:but|while|whereas|although|though|because|which|who|and)\b|但|而是|然而|虽然|因为"
)
_OPPOSITES = (
    "increase/decrease rise/fall rose/fell increased/decreased grew/shrank allow/forbid allowed/forbidden "
    "permitted/prohibited open/closed enabled/disabled enable/disable before/after always/never highest/lowest "
    "largest/smallest longest/shortest oldest/youngest most/least more/fewer more/less above/below won/lost "
    "win/lose accept/reject accepted/rejected include/exclude included/excluded begin/end began/ended "
    "northern/southern eastern/western north/south east/west higher/lower true/false early/late "
    "maximum/minimum public/private possible/impossible legal/illegal required/optional inside/outside "
    "增加/减少 上升/下降 提高/降低 允许/禁止 打开/关闭 开启/关闭 启用/禁用 之前/之后 以前/以后 "
    "最大/最小 最高/最低 最多/最少 最长/最短 "
    "高于/低于 多于/少于 大于/小于 支持/反对 开始/结束 接受/拒绝 包括/排除 胜利/失败 "
    "赢得/失去 北部/南部 东部/西部 公开/私有 "
    "合法/非法 可能/不可能 必须/可选 总是/从不 早期/晚期 内部/外部"
)
_OPPOSITE: dict[str, frozenset[str]] = {}
for _pair in _OPPOSITES.split():
    _one, _other = _pair.split("/")
    _OPPOSITE[_one] = _OPPOSITE.get(_one, frozenset()) | {_other}
    _OPPOSITE[_other] = _OPPOSITE.get(_other, frozenset()) | {_one}
_OPPOSITE_WORD = re.compile(
    r"\b(?:"
    + "|".join(word for word in _OPPOSITE if word.isascii())
    + r")\b|"
    + "|".join(sorted((word for word in _OPPOSITE if not word.isascii()), key=len, reverse=True))
)


def clauses(folded: str) -> list[tuple[str, bool]]:
    """The clauses of a folded sentence, and whether each is negated."""
    plain = _NOT_A_NEGATION.sub(lambda match: "\x00" * len(match.group()), folded)
    found = []
    begin = 0
    for end in (*(match.start() for match in _CLAUSE.finditer(folded)), len(folded)):
        if folded[begin:end].strip():
            found.append((folded[begin:end], len(_NEGATION.findall(plain, begin, end)) % 2 == 1))
        begin = end
    return found


def opposed(claim: str, source: str) -> bool:
    """Whether folded ``claim`` has a word whose opposite folded ``source`` has in its place."""
    wanted = set(_OPPOSITE_WORD.findall(claim))
    if not wanted:
        return False
    there = set(_OPPOSITE_WORD.findall(source))
    return any(word not in source and _OPPOSITE[word] & (there - wanted) for word in wanted)
