"""Text with formatting codes, as AutoCAD stores it in MTEXT, dimensions, leaders and cells of tables.

The format is described in the DXF reference of Autodesk and in the notes of ezdxf. ezdxf removes the codes too, but
joins a stacked fraction with the number before it, decodes ``^`` in a tolerance as a control character, and copies the
rest of the text at each code.
"""

from __future__ import annotations

import re
from typing import Final

_CODE: Final = re.compile(
    r"\\S(?P<stack>(?:[^;\\]|\\.){0,400}+);?"
    r"|\\(?P<escaped>[\\{}])"
    r"|\\(?P<space>[PNX~])"
    r"|\\[fFp][^;\\{}]{0,400}+;"
    r"|\\[HWTQ]\s?[-+]?[0-9]{0,20}+(?:\.[0-9]{0,20}+)?(?:[eE][-+]?[0-9]{1,3})?x?;?"
    r"|\\[AaCc][0-9]{1,10}+;?"
    r"|\\[LlOoKk]"
    r"|%%(?P<sign>[cCdDpP])"
    r"|%%(?P<number>[0-9]{3})"
    r"|\^(?P<control>[ -_])"
    r"|[{}]",
    re.DOTALL,
)
"""The formatting codes. Each part has a maximum length, so that a text is searched in linear time."""

_STACK: Final = re.compile(r"((?:[^\\^/#]|\\.)*+)([\^/#])?(.*)", re.DOTALL)
_SPACES: Final = {"P": "\n", "N": "\n", "X": "\n", "~": " "}
_SIGNS: Final = {"c": "Ø", "d": "°", "p": "±"}
_RAISED: Final = str.maketrans("0123456789+-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻")
_LOWERED: Final = str.maketrans("0123456789+-", "₀₁₂₃₄₅₆₇₈₉₊₋")


def plain_mtext(content: str) -> str:
    """Return the text without codes: ``90 1/2`` for ``90\\S1#2;``, ``m²`` for ``m\\S2^ ;``."""
    pieces: list[str] = []
    end, last_character = 0, ""
    for match in _CODE.finditer(content):
        if text := content[end : match.start()]:
            pieces.append(text)
            last_character = text[-1]
        end = match.end()
        if text := _visible_text(match, last_character, content[end : end + 1]):
            pieces.append(text)
            last_character = text[-1]
    return "".join([*pieces, content[end:]])


def _visible_text(match: re.Match[str], last_character: str, next_character: str) -> str:
    """Return what a code shows between two characters."""
    if match["stack"] is not None:
        return _stacked(match["stack"], last_character, next_character)
    if match["space"]:
        return _SPACES[match["space"]]
    if match["sign"]:
        return _SIGNS[match["sign"].lower()]
    if match["number"]:
        return chr(int(match["number"]))
    if match["control"]:
        return {" ": "^", "I": "\t", "J": "\n", "M": "\n"}.get(match["control"], " ")
    return match["escaped"] or ""


def _stacked(stack: str, last_character: str, next_character: str) -> str:
    """Return two stacked texts in one line, apart from the number before them and the word behind them."""
    parts = _STACK.fullmatch(stack)
    if parts is None:
        return stack
    upper, mark, lower = (re.sub(r"\\(.)", r"\1", part or "").strip() for part in parts.groups())
    if not mark:
        return upper
    if mark == "^" and not (upper and lower):
        return upper.translate(_RAISED) + lower.translate(_LOWERED)
    space_before = " " if last_character.isalnum() else ""
    return f"{space_before}{upper}/{lower}{' ' if next_character.isalnum() else ''}"
