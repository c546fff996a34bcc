"""Chinese numerals. Pure functions."""

from __future__ import annotations

_DIGITS_ZH = {char: value for value, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "幺": 1}
CHINESE_UNITS = {"十": 10, "百": 100, "千": 1000}
CHINESE_SCALES = {"万": 1e4, "亿": 1e8, "兆": 1e12}


def chinese_number(text: str) -> float | None:
    """Return the number that a text represents. The number may also be written in digits."""
    try:
        return float(text)
    except ValueError:
        pass
    integer_part, _, part = text.partition("点")
    if not any(char in CHINESE_UNITS or char in CHINESE_SCALES for char in integer_part):
        digits = "".join(str(_DIGITS_ZH.get(char, "")) for char in integer_part)
        fraction = "".join(str(_DIGITS_ZH.get(char, "")) for char in part)
        return float(f"{digits or 0}.{fraction or 0}")
    total = section = digit = 0.0
    for char in integer_part:
        if char in _DIGITS_ZH:
            digit = _DIGITS_ZH[char]
        elif char in CHINESE_UNITS:
            section += (digit or 1) * CHINESE_UNITS[char]
            digit = 0.0
        elif char in CHINESE_SCALES:
            total = (total + section + digit or 1) * CHINESE_SCALES[char]
            section = digit = 0.0
    fraction = "".join(str(_DIGITS_ZH.get(char, "")) for char in part)
    return total + section + digit + float(f"0.{fraction or 0}")
