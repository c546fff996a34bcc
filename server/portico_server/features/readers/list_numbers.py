"""Numbers of list items and headings, as text: 4, d, IV, 四."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

MAX_NUMBER: Final = 9_999
"""Maximum number that is written in letters or Roman digits; larger numbers are written in digits."""

_ROMAN: Final = (
    (1_000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"),
    (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),
)  # fmt: skip
_CHINESE_DIGITS: Final = "〇一二三四五六七八九"


def decimal(number: int) -> str:
    """Return the number in digits."""
    return str(number)


def two_digits(number: int) -> str:
    """Return the number in at least two digits."""
    return f"{number:02}"


def letters(number: int) -> str:
    """Return a, b … z, aa, bb … for the numbers from one."""
    if not 1 <= number <= MAX_NUMBER:
        return str(number)
    repeats, letter = divmod(number - 1, 26)
    return chr(ord("a") + letter) * (repeats + 1)


def roman(number: int) -> str:
    """Return the number in lower-case Roman digits."""
    if not 1 <= number <= MAX_NUMBER:
        return str(number)
    text = ""
    for value, digits in _ROMAN:
        count, number = divmod(number, value)
        text += digits * count
    return text.lower()


def chinese(number: int) -> str:
    """Return the number in Chinese digits, up to 99."""
    if not 0 <= number <= 99:
        return str(number)
    tens, digit = divmod(number, 10)
    if not tens:
        return _CHINESE_DIGITS[digit]
    return f"{_CHINESE_DIGITS[tens] if tens > 1 else ''}十{_CHINESE_DIGITS[digit] if digit else ''}"


def upper(write: Callable[[int], str]) -> Callable[[int], str]:
    """Return a function that writes numbers in capitals."""
    return lambda number: write(number).upper()


ODF_NUMBERS: Final[Mapping[str, Callable[[int], str]]] = {
    "1": decimal,
    "a": letters,
    "A": upper(letters),
    "i": roman,
    "I": upper(roman),
    "一, 二, 三, ...": chinese,
}
"""Ways to write a number, by their names in OpenDocument and in the attribute ``type`` of HTML."""

WORD_NUMBERS: Final[Mapping[str, Callable[[int], str]]] = {
    "decimal": decimal,
    "decimalZero": two_digits,
    "lowerLetter": letters,
    "upperLetter": upper(letters),
    "lowerRoman": roman,
    "upperRoman": upper(roman),
    "chineseCounting": chinese,
    "chineseCountingThousand": chinese,
    "japaneseCounting": chinese,
    "taiwaneseCountingThousand": chinese,
    "ideographDigital": chinese,
}
"""Ways to write a number, by their names in Word."""
