"""Number formats of spreadsheets (ECMA-376 part 1, 18.8.31): a number as its cell shows it.

Formats of dates are applied if they show names (`date_formats`); of other dates the parts that the format shows are in
ISO format. A value is shown without its format if the format is not one of the common forms.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from fractions import Fraction
from functools import lru_cache
from typing import Final

from portico_server.core.dataclass import dataclass
from portico_server.core.words import whole_number
from portico_server.features.readers.date_formats import format_date, format_moment

MAX_FORMAT_CHARS: Final = 255
"""Maximum length of a format in characters, as in Excel."""

MAX_FORMATTED_NUMBER: Final = 1e15
"""Numbers of this size or more are shown without their format."""

BUILT_IN_FORMATS: Final = {
    1: "0",
    2: "0.00",
    3: "#,##0",
    4: "#,##0.00",
    5: '"$"#,##0_);("$"#,##0)',
    6: '"$"#,##0_);("$"#,##0)',
    7: '"$"#,##0.00_);("$"#,##0.00)',
    8: '"$"#,##0.00_);("$"#,##0.00)',
    9: "0%",
    10: "0.00%",
    11: "0.00E+00",
    12: "# ?/?",
    13: "# ??/??",
    14: "yyyy-mm-dd",
    15: "d-mmm-yy",
    16: "d-mmm",
    17: "mmm-yy",
    18: "h:mm AM/PM",
    19: "h:mm:ss AM/PM",
    20: "h:mm",
    21: "h:mm:ss",
    22: "m/d/yyyy h:mm",
    37: "#,##0_);(#,##0)",
    38: "#,##0_);(#,##0)",
    39: "#,##0.00_);(#,##0.00)",
    40: "#,##0.00_);(#,##0.00)",
    41: '_(* #,##0_);_(* (#,##0);_(* "-"_);_(@_)',
    42: '_("$"* #,##0_);_("$"* (#,##0);_("$"* "-"_);_(@_)',
    43: '_(* #,##0.00_);_(* (#,##0.00);_(* "-"??_);_(@_)',
    44: '_("$"* #,##0.00_);_("$"* (#,##0.00);_("$"* "-"??_);_(@_)',
    45: "mm:ss",
    46: "[h]:mm:ss",
    47: "mm:ss.0",
}
"""Formats that a file names only by their number."""

_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|_.|\*.|\[\$(?P<currency>[^\]-]*)(?:-[^\]]*)?\]|'
    r"\[(?P<elapsed>h+|m+|s+)\]|\[(?P<bracket>[^\]]*)\]|(?P<general>General)|(?P<digits>[0#?][0#?.,]*|\.[0#?]+)|"
    r"(?P<exponent>E[+-]0+)|(?P<clock>h+|m+|s+)|(?P<date>[ydbgeah])|(?P<text>@)|(?P<end>;)|(?P<percent>%)|(?P<literal>.)",
    re.IGNORECASE | re.DOTALL,
)
_FRACTION = re.compile(r"(?:[0#?]+ )?[?#]+/(?:[?#]+|\d+)")
_CONDITION = re.compile(r"(?P<sign><=|>=|<>|<|>|=)(?P<limit>-?[0-9]{1,15}(?:\.[0-9]{1,15})?)")
_COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "<>": operator.ne,
}
_COLOURS = re.compile(r"(?:black|blue|cyan|green|magenta|red|white|yellow|color ?\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _FormatPiece:
    """A piece of a format: its kind, which is a group of `_TOKEN`, and its text."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class _Condition:
    """A condition of a section, such as ``[>=1000]``."""

    sign: str
    limit: float

    @property
    def is_negative(self) -> bool:
        """Return whether only negative numbers meet the condition. Excel shows them without a minus sign."""
        return (self.limit < 0 and self.sign in ("<", "<=", "=")) or (self.sign, self.limit) == ("<", 0)

    def is_met(self, value: float) -> bool:
        """Return whether a number meets the condition."""
        return _COMPARISONS[self.sign](value, self.limit)


def format_cell(cell: object) -> str:
    """Return a value approximately as the spreadsheet displays it without a number format."""
    match cell:
        case str():
            return " ".join(cell.split())
        case float() if cell.is_integer() and abs(cell) < 1e15:
            return str(int(cell))
        case float():
            return f"{cell:.12G}"
        case bool():
            return str(cell).upper()
        case datetime() if cell.time() == time():
            return cell.date().isoformat()
        case datetime():
            return cell.isoformat(" ", "seconds")
        case timedelta():
            return _elapsed(cell, _pieces("[h]:mm:ss" if cell.seconds % 60 else "[h]:mm")[0]) or ""
        case time() if cell.microsecond:
            return cell.isoformat("milliseconds").rstrip("0").rstrip(".")
        case date() | time():
            return str(cell)
        case _:
            return " ".join(str(cell).split())


def format_number(cell: object, number_format: str) -> str | None:
    """Return a number, a text, a duration or a date in a format; ``None`` if that is not one of the common forms."""
    if len(number_format) > MAX_FORMAT_CHARS:
        return None
    if isinstance(cell, str):
        return _text(cell, _pieces(number_format))
    shown_date = format_date(cell, number_format)
    if shown_date is not None:
        return shown_date
    if isinstance(cell, (date, time)):
        return format_moment(cell, number_format)
    sections = _pieces(number_format)
    if isinstance(cell, timedelta):
        return _elapsed(cell, sections[0])
    if isinstance(cell, bool) or not isinstance(cell, int | float) or not abs(cell) < MAX_FORMATTED_NUMBER:
        return None
    try:
        return _number(float(cell), sections)
    except InvalidOperation:
        return None  # more decimals than a number has


@lru_cache(maxsize=256)
def _pieces(number_format: str) -> Sequence[Sequence[_FormatPiece]]:
    """Return the sections of a format for positive numbers, negative numbers and zero, in pieces."""
    sections: list[list[_FormatPiece]] = [[]]
    for match in _TOKEN.finditer(number_format):
        kind = match.lastgroup
        if kind == "end":
            sections.append([])
        elif kind == "bracket" and _COLOURS.fullmatch(match["bracket"]):
            continue
        elif kind is not None:
            is_literal = kind in ("quoted", "escaped", "currency")
            sections[-1].append(_FormatPiece("literal" if is_literal else kind, match[kind]))
        elif match[0][0] == "_":
            sections[-1].append(_FormatPiece("literal", " "))
    return sections


def _text(text: str, sections: Sequence[Sequence[_FormatPiece]]) -> str | None:
    """Return a text in the section of a format for texts: the fourth, or the last if it has an ``@``."""
    pieces = sections[3] if len(sections) > 3 else sections[-1]
    if len(sections) < 4 and all(piece.kind != "text" for piece in pieces):
        return None
    return " ".join("".join(text if piece.kind == "text" else piece.text for piece in pieces).split())


def _section(
    value: float, sections: Sequence[Sequence[_FormatPiece]]
) -> tuple[Sequence[_FormatPiece] | None, str]:
    """Return the pieces of the section in which Excel shows a number, and "-" if a minus sign precedes them.

    The pieces are ``None`` if no section is for the number. A last section for texts shows no numbers.
    """
    has_text = 1 < len(sections) < 4 and any(piece.kind == "text" for piece in sections[-1])
    sections = sections[:-1] if has_text else sections[:3]
    sign = "-" if value < 0 else ""
    stated_conditions = [_condition(section) for section in sections]
    conditions = _with_defaults(stated_conditions)
    for section, stated_condition, condition in zip(sections, stated_conditions, conditions, strict=True):
        if condition is None:
            return section, sign if len(sections) > 2 or _keeps_minus(conditions[0]) else ""
        if condition.is_met(value):
            return section[1:] if stated_condition else section, "" if condition.is_negative else sign
    return None, sign


def _condition(section: Sequence[_FormatPiece]) -> _Condition | None:
    """Return the condition at the beginning of a section, such as ``[>=1000]``."""
    match = _CONDITION.fullmatch(section[0].text) if section and section[0].kind == "bracket" else None
    return match and _Condition(match["sign"], float(match["limit"]))


def _with_defaults(conditions: Sequence[_Condition | None]) -> Sequence[_Condition | None]:
    """Return the conditions of the sections for numbers. Excel's own apply where a format states none.

    The first section is for positive numbers, the second of three for negative numbers, the last for all others. If a
    format with two sections has no conditions, its first section also shows zero.
    """
    if len(conditions) == 1:
        return conditions
    shows_zero = len(conditions) == 2 and conditions[1] is None
    defaults = [
        _Condition(">=" if shows_zero else ">", 0),
        _Condition("<", 0) if len(conditions) > 2 else None,
        None,
    ]
    return [condition or default for condition, default in zip(conditions, defaults, strict=False)]


def _keeps_minus(condition: _Condition | None) -> bool:
    """Return whether a negative number has a minus sign in a single section, or in the second of two sections.

    The second section has no condition. Excel decides by the ``condition`` of the first section: -2 is "-2" in
    ``[>=1]0;0``, but "2" in ``[>=-1]0;0``. The values that Excel shows are in issue 78 of SheetJS/ssf, and in the tests
    of snoopyjc/ssf and borgar/numfmt.
    """
    return (
        condition is None or condition.sign == "=" or (condition.sign in (">", ">=") and condition.limit > 0)
    )


def _number(value: float, sections: Sequence[Sequence[_FormatPiece]]) -> str | None:
    pieces, sign = _section(value, sections)
    if pieces is None:
        return None
    kinds = [piece.kind for piece in pieces]
    if not {*kinds} <= {"literal", "percent", "digits", "exponent", "general"} or "general" in kinds[1:]:
        return None
    number = Decimal(f"{abs(value):.15g}")
    code = "".join(piece.text for piece in pieces)
    if "/" in code and _FRACTION.search(code):
        return f"{sign}{_fraction(number, code)}" if _FRACTION.fullmatch(code) else None
    number *= 100 ** kinds.count("percent")
    shown_text = _filled(number, pieces)
    if shown_text is None:
        return None
    text = " ".join(shown_text.split())
    return f"{sign}{text}" if sign and re.search("[1-9]", text) else text


def _filled(number: Decimal, pieces: Sequence[_FormatPiece]) -> str | None:
    """Return a format with the digits of a number in its places."""
    places = [piece.text for piece in pieces if piece.kind in ("digits", "general")]
    exponents = [piece.text for piece in pieces if piece.kind == "exponent"]
    if not places:
        return "".join(piece.text for piece in pieces)  # such as "-" for zero
    if exponents:
        return _scientific(number, places, exponents) if len(pieces) == 2 else None
    if len(places) == 1:
        digits = _digits(number, places[0])
        return "".join(digits if piece.kind in ("digits", "general") else piece.text for piece in pieces)
    if set("".join(places[:-1])) - {*"0#?"} or set(places[-1]) - {*"0#?."}:
        return None
    # Literals between digits, as in 000-00-0000: the last places take the last digits.
    remaining, point, decimals = _digits(number, "".join(places)).partition(".")
    shown_text: list[str] = []
    last = max(index for index, piece in enumerate(pieces) if piece.kind == "digits")
    for index, piece in reversed(list(enumerate(pieces))):
        if piece.kind != "digits":
            shown_text.append(piece.text)
            continue
        is_first = not any(earlier_piece.kind == "digits" for earlier_piece in pieces[:index])
        count = len(remaining) if is_first else len(piece.text.partition(".")[0])
        digits = remaining[len(remaining) - count :] if count <= len(remaining) else remaining
        shown_text.append(f"{digits}{point}{decimals}" if index == last else digits)
        remaining = remaining[: max(0, len(remaining) - count)]
    return "".join(reversed(shown_text))


def _digits(number: Decimal, places: str) -> str:
    if places == "General":
        return f"{float(number):.12G}"
    stripped_places = places.rstrip(",")
    number /= 1000 ** (len(places) - len(stripped_places))
    whole_places, point, decimal_places = stripped_places.partition(".")
    decimals = len(decimal_places.replace(",", ""))
    rounded = number.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
    whole_digits, _point, fraction = f"{rounded:f}".partition(".")
    whole_digits = "" if whole_digits == "0" else whole_digits
    required_zeros = whole_places.count("0")
    whole_digits = whole_digits.rjust(required_zeros, "0")
    if "," in whole_places and whole_digits:
        whole_digits = re.sub(r"\B(?=(?:\d{3})+$)", ",", whole_digits)
    minimum = len(decimal_places.rstrip("#?"))
    kept_fraction = fraction[:minimum] + fraction[minimum:].rstrip("0")
    return f"{whole_digits}{point}{kept_fraction}"


def _scientific(number: Decimal, places: Sequence[str], exponents: Sequence[str]) -> str | None:
    """Return a number with an exponent, which is a multiple of the number of places before the decimal point."""
    whole_places, _point, decimal_places = places[0].partition(".")
    if len(places) != 1 or not whole_places or set(places[0]) - {*"0#?."} or len(exponents) != 1:
        return None
    step = len(whole_places)
    magnitude = int(f"{number:.{len(decimal_places)}E}".partition("E")[2])
    power = magnitude // step * step
    mantissa = _digits(number.scaleb(-power), f"0.{decimal_places}" if decimal_places else "0")
    mark = "-" if power < 0 else "+" if exponents[0][1] == "+" else ""
    return f"{mantissa}E{mark}{str(abs(power)).rjust(len(exponents[0]) - 2, '0')}"


def _fraction(number: Decimal, code: str) -> str:
    places, _mark, below = code.partition("/")
    fixed = whole_number(below) or 0
    limit = fixed or 10 ** min(len(below), 4) - 1
    has_whole = " " in places
    whole_part = int(number) if has_whole else 0
    fraction_part = Fraction(number) - whole_part
    part = Fraction(round(fraction_part * fixed), fixed) if fixed else fraction_part.limit_denominator(limit)
    if has_whole and part >= 1:
        whole_part, part = whole_part + 1, Fraction(0)
    numerator = part.numerator * (fixed // part.denominator if fixed else 1)
    shown_part = f"{numerator}/{fixed or part.denominator}" if part or not has_whole else ""
    return f"{whole_part} {shown_part}".strip() if whole_part else shown_part or str(whole_part)


def _elapsed(value: timedelta, pieces: Sequence[_FormatPiece]) -> str | None:
    """Return a duration in hours, minutes and seconds, perhaps with decimals."""
    largest = next((piece.text[0].lower() for piece in pieces if piece.kind == "elapsed"), "")
    if not largest or not {piece.kind for piece in pieces} <= {"elapsed", "clock", "literal", "digits"}:
        return None
    decimals = next(
        (len(piece.text) - 1 for piece in pieces if piece.kind == "digits" and piece.text[0] == "."), 0
    )
    seconds, fraction = divmod(round(abs(value) / timedelta(seconds=1) * 10**decimals), 10**decimals)
    shown_text = "-" if value < timedelta() else ""
    for piece in pieces:
        unit = piece.text[0].lower() if piece.kind in ("elapsed", "clock") else ""
        count = {"h": seconds // 3600, "m": seconds // 60, "s": seconds}.get(unit, 0)
        if piece.kind == "clock":
            count %= 24 if unit == "h" else 60
        if piece.kind == "digits" and decimals:
            shown_text += f".{fraction:0{decimals}d}"
        else:
            shown_text += f"{count:0{len(piece.text)}d}" if unit else piece.text
    return " ".join(shown_text.split())
