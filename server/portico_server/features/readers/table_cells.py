"""Values of the cells of a column: numbers with separators and a unit, dates in common forms, or texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time
from typing import Final

from portico_server.core.dataclass import dataclass
from portico_server.core.tables import ColumnKind
from portico_server.core.words import MONTHS
from portico_server.db.query.memory_table import CellValue
from portico_server.features.readers.number_formats import format_cell

MAX_UNIT_CHARS: Final = 12
"""Maximum length of a unit in characters."""

MAX_NUMBER_CHARS: Final = 40
"""Maximum length of a cell that may be a number, in characters."""

MAX_EXACT_DIGITS: Final = 15
"""Maximum number of digits of a number; a longer one, such as an account number, is a text."""

_FULL_WIDTH = {0xFEE0 + code: code for code in range(0x21, 0x7F)} | {0x3000: 0x20}
"""Full-width characters, with the ASCII characters that they stand for."""

_EMPTY = frozenset(
    [
        *(
            "",
            "-",
            "–",
            "—",
            "/",
            "?",
            ".",
            "n/a",
            "na",
            "n.a.",
            "nan",
            "null",
            "none",
            "nil",
            "tbd",
            "unknown",
        ),
        *("#n/a", "#value!", "#ref!", "#div/0!", "无", "暂无", "未知", "空", "缺失"),
    ]
)
"""Cells that state that there is no value."""

_CURRENCIES = r"[$€£¥₹₩₽]|US\$|HK\$|R\$|A\$|C\$|EUR|USD|GBP|CHF|CNY|RMB|JPY|SEK|NOK|DKK|INR|kr\.?|Rs\.?|Fr\.?"
_NUMBER = re.compile(
    rf"(?P<open>\()?\s*(?P<sign>[-+−])?\s*(?P<before>{_CURRENCIES})?\s*(?P<sign2>[-+−])?\s*"
    r"(?P<digits>\d[\d.,'’ \u00a0\u202f]*(?<=\d)|\.\d+|\d)(?P<exponent>[eE][-+]?\d{1,3})?"
    r"\s*(?P<scale>[万亿千百]+)?(?P<after>[^\W\d_][^\d()]{0,11}|[%‰°$€£¥₹₩₽][^\d()]{0,11})?\s*(?P<close>\))?"
)
_GROUPS = {",": re.compile(r"\d{1,3}(?:,\d{3})+"), ".": re.compile(r"\d{1,3}(?:\.\d{3})+")}
_INDIAN = re.compile(r"\d{1,2}(?:,\d{2})+,\d{3}")
_SPACED = re.compile(r"\d{1,3}(?:(?P<mark>['’ \u00a0\u202f])\d{3})(?:(?P=mark)\d{3})*(?:[.,]\d+)?")
_SCALES = {"百": 1e2, "千": 1e3, "万": 1e4, "亿": 1e8, "百万": 1e6, "千万": 1e7, "万亿": 1e12}

_MONTH_NUMBERS = {name[:3]: number for number, name in enumerate(MONTHS, 1)}
_MONTH = rf"(?P<month_name>{'|'.join((*MONTHS, *(name[:3] for name in MONTHS), 'sept'))})\.?"
_CLOCK = r"(?:[T ]\s*(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.\d+)?)?\s*(?:Z|[+-]\d{2}:?\d{2})?)?"
_DATES = tuple(
    re.compile(pattern + _CLOCK, re.IGNORECASE)
    for pattern in (
        r"(?P<year>[12]\d{3})(?P<mark>[-/.])(?P<month>\d{1,2})(?P=mark)(?P<day>\d{1,2})",
        r"(?P<year>[12]\d{3})年(?P<month>\d{1,2})月(?P<day>\d{1,2})[日号]",
        rf"(?P<day>\d{{1,2}})(?:st|nd|rd|th|\.)?[ -]{_MONTH},?[ -](?P<year>[12]\d{{3}})",
        rf"{_MONTH} (?P<day>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<year>[12]\d{{3}})",
    )
)
_NUMERIC_DATE = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2([12]\d{3})" + _CLOCK)


@dataclass(frozen=True, slots=True)
class TypedColumn:
    """The values of a column, and the kind, the unit and the decimals that they have in common."""

    kind: ColumnKind
    values: Sequence[CellValue]
    unit: str = ""
    unit_first: bool = False
    decimals: int = 0


@dataclass(frozen=True, slots=True)
class _NumberText:
    """The parts of a number as a cell writes it."""

    digits: str
    is_negative: bool
    unit: str
    unit_first: bool
    scale: float
    exponent: str


def typed_column(cells: Sequence[object], *, semicolons: bool = False) -> TypedColumn:
    """Return the typed values of the cells of a column. ``semicolons``: the file separates cells by semicolons, as
    programs do where a comma separates decimals.

    A column has numbers or dates only if every cell with a value is one, all units are equal, and the separators and
    the order of day and month are clear. All group_mark columns are texts.
    """
    numbers = _numbers(cells, semicolons=semicolons)
    if numbers is not None:
        return numbers
    dates = _date_column(cells)
    if dates is not None:
        return TypedColumn("date", dates)
    return TypedColumn("text", [text_of(cell) or None for cell in cells])


def is_value(cell: object) -> bool:
    """Return whether a cell is a number or a date by itself, which a header is not."""
    match cell:
        case bool() | int() | float() | date() | time():
            return True
        case str():
            text = text_of(cell)
            return (
                _number_text(text) is not None
                or _date_text(text) is not None
                or bool(_NUMERIC_DATE.fullmatch(text))
            )
    return False


def is_blank(cell: object) -> bool:
    """Return whether a cell is empty, or states that there is no value."""
    return cell is None or (isinstance(cell, str) and cell.strip().lower() in _EMPTY)


def text_of(cell: object) -> str:
    """Return the text of a cell."""
    return "" if cell is None else format_cell(cell)


def _numbers(cells: Sequence[object], *, semicolons: bool) -> TypedColumn | None:
    texts: dict[int, _NumberText] = {}
    values: list[CellValue] = [None] * len(cells)
    decimals = 0
    for number, cell in enumerate(cells):
        if is_blank(cell):
            continue
        if isinstance(cell, bool):
            return None
        if isinstance(cell, int | float):
            if cell - cell != 0:
                return None
            values[number] = float(cell)
            decimals = max(decimals, _decimals(format_cell(cell)))
            continue
        text = _number_text(text_of(cell)) if isinstance(cell, str) else None
        if text is None:
            return None
        texts[number] = text
    if not texts and not any(value is not None for value in values):
        return None
    units = {(text.unit, text.unit_first) for text in texts.values()}
    if any(value is not None for value in values):
        units.add(("", False))
    if len(units) > 1:
        return None
    mark = _decimal_mark([text.digits for text in texts.values()], semicolons=semicolons)
    if mark is None:
        return None
    for number, text in texts.items():
        plain = re.sub(
            r"[^\d.]", "", text.digits.replace(".", "").replace(",", ".") if mark == "," else text.digits
        )
        value = float(f"{plain}{text.exponent}") * text.scale
        values[number] = -value if text.is_negative else value
        decimals = max(decimals, _decimals(plain) if text.scale == 1 else 0)
    unit, unit_first = next(iter(units), ("", False))
    return TypedColumn("number", values, unit, unit_first, decimals)


def _decimals(digits: str) -> int:
    return len(digits.partition(".")[2]) if "e" not in digits.lower() else 0


def _number_text(text: str) -> _NumberText | None:
    if len(text) > MAX_NUMBER_CHARS:
        return None
    match = _NUMBER.fullmatch(text.translate(_FULL_WIDTH))
    if match is None or bool(match["open"]) != bool(match["close"]):
        return None
    digits = match["digits"]
    plain = re.sub(r"\D", "", digits)
    if len(plain) > MAX_EXACT_DIGITS or (
        len(plain) > 1 and plain[0] == "0" and digits[:2] not in ("0.", "0,")
    ):
        return None  # a code, such as 007 or a telephone number
    if re.search(r"['’\s]", digits) and _SPACED.fullmatch(digits) is None:
        return None
    unit_after, unit_before = (match["after"] or "").strip(), (match["before"] or "").strip()
    if (unit_before and unit_after) or unit_after.count(" ") > 1 or (match["sign"] and match["sign2"]):
        return None
    scale = match["scale"] or ""
    if scale and scale not in _SCALES:
        return None
    is_negative = (
        bool(match["open"]) or "-" in (sign := (match["sign"] or match["sign2"] or "")) or "−" in sign
    )
    return _NumberText(
        re.sub(r"['’\s]", "", digits),
        is_negative,
        unit_before or unit_after,
        bool(unit_before),
        _SCALES.get(scale, 1.0),
        match["exponent"] or "",
    )


def _decimal_mark(texts: Sequence[str], *, semicolons: bool) -> str | None:
    """Return ``.`` or ``,``, whichever separates decimals in all texts; ``None`` if that is not clear."""
    votes, doubts = set[str](), set[str]()
    for digits in texts:
        dots, commas = digits.count("."), digits.count(",")
        if not dots and not commas:
            continue
        if dots and commas:
            mark = "." if digits.rfind(".") > digits.rfind(",") else ","
            integer_part = digits.rpartition(mark)[0]
            group_mark = "," if mark == "." else "."
            if digits.count(mark) > 1 or not (
                _GROUPS[group_mark].fullmatch(integer_part)
                or (group_mark == "," and _INDIAN.fullmatch(integer_part))
            ):
                return None
            votes.add(mark)
            continue
        mark = "." if dots else ","
        group_mark = "," if mark == "." else "."
        if _GROUPS[mark].fullmatch(digits) and not digits.startswith("0"):
            if digits.count(mark) > 1:
                votes.add(group_mark)
            else:
                doubts.add(mark)
        elif mark == "," and _INDIAN.fullmatch(digits):
            votes.add(".")
        elif digits.count(mark) == 1:
            votes.add(mark)
        else:
            return None
    if len(votes) == 1:
        [mark] = votes
        return mark
    if votes or len(doubts) > 1:
        return None
    if not doubts:
        return "."
    if doubts == {","}:
        return None if semicolons else "."  # 1,200
    return "." if not semicolons and _vary(texts) else None  # 1.200


def _vary(texts: Sequence[str]) -> bool:
    """Return whether some numbers have no separator, which grouped thousands of the same size would have."""
    return any("." not in digits and len(digits) > 3 for digits in texts)


def _date_column(cells: Sequence[object]) -> list[CellValue] | None:
    values: list[CellValue] = [None] * len(cells)
    numeric: dict[int, re.Match[str]] = {}
    has_values = False
    for number, cell in enumerate(cells):
        if is_blank(cell):
            continue
        has_values = True
        if isinstance(cell, date):
            values[number] = _iso(cell)
            continue
        text = cell.translate(_FULL_WIDTH).strip() if isinstance(cell, str) else ""
        value = _date_text(text)
        if value is not None:
            values[number] = value
        elif (match := _NUMERIC_DATE.fullmatch(text)) is not None:
            numeric[number] = match
        else:
            return None
    if not has_values:
        return None
    if numeric:
        is_day_first = _is_day_first(numeric.values())
        if is_day_first is None:
            return None
        for number, match in numeric.items():
            day, month = (int(match[1]), int(match[3])) if is_day_first else (int(match[3]), int(match[1]))
            value = _moment(int(match[4]), month, day, match)
            if value is None:
                return None
            values[number] = value
    return values


def _is_day_first(matches: Iterable[re.Match[str]]) -> bool | None:
    """Return whether dates such as 05/03/2024 begin with the day; ``None`` if every date could begin with either."""
    firsts, seconds, marks = set[int](), set[int](), set[str]()
    for match in matches:
        firsts.add(int(match[1]))
        seconds.add(int(match[3]))
        marks.add(match[2])
    if max(firsts) > 12:
        return True if max(seconds) <= 12 else None
    if max(seconds) > 12:
        return False
    return True if marks == {"."} else None


def _date_text(text: str) -> str | None:
    if not 8 <= len(text) <= MAX_NUMBER_CHARS or re.search(r"\d", text) is None:
        return None
    for pattern in _DATES:
        if (match := pattern.fullmatch(text)) is not None:
            group = match.groupdict()
            month = (
                int(group["month"]) if group.get("month") else _MONTH_NUMBERS[group["month_name"][:3].lower()]
            )
            return _moment(int(group["year"]), month, int(group["day"]), match)
    return None


def _moment(year: int, month: int, day: int, match: re.Match[str]) -> str | None:
    """Return a date in ISO format, with its time if the match has one; ``None`` if it does not exist."""
    try:
        day_of = date(year, month, day)
        if match["hour"] is None:
            return day_of.isoformat()
        return _iso(
            datetime.combine(
                day_of, time(int(match["hour"]), int(match["minute"]), int(match["second"] or 0))
            )
        )
    except ValueError:
        return None


def _iso(moment: date) -> str:
    if not isinstance(moment, datetime):
        return moment.isoformat()
    if moment.time() == time():
        return moment.date().isoformat()
    return moment.replace(tzinfo=None).isoformat(" ", "seconds")
