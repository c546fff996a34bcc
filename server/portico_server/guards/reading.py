"""A text as detectors read it: without what only looks different."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

_NO_WIDTH: Final = "\u200b"
"""What all characters without width are folded to, before they are left out."""


class _Fold(dict[int, int]):
    """Characters to those that they are read as, one for one; filled as they are met, in the first plane."""

    def __missing__(self, code: int) -> int:
        char = chr(code)
        read = code
        if unicodedata.category(char) == "Cf" or 0xFE00 <= code <= 0xFE0F:
            read = ord(_NO_WIDTH)
        elif (digit := unicodedata.decimal(char, None)) is not None:
            read = ord("0") + digit
        else:
            folded_char = unicodedata.normalize("NFKC", char)
            if len(folded_char) == 1:
                read = ord(folded_char)
            elif code in _DASHES:
                read = ord("-")
        if code in _DASHES:
            read = ord("-")
        if code < 0x10000:
            self[code] = read
        return read


_DASHES: Final = frozenset((0x2010, 0x2011, 0x2012, 0x2013, 0x2212, 0xFE63, 0xFF0D))


_FOLD: Final = _Fold()


def fold_text(text: str) -> tuple[str, Sequence[int] | None]:
    """The text as it is read, and the place of each of its characters where some are left out."""
    if text.isascii():
        return text, None
    folded_text = text.translate(_FOLD)
    if _NO_WIDTH not in folded_text:
        return folded_text, None
    places = [place for place, char in enumerate(folded_text) if char != _NO_WIDTH]
    return folded_text.replace(_NO_WIDTH, ""), places


def last_read(text: str, count: int) -> int:
    """Where the last ``count`` characters begin that are read."""
    places = fold_text(text)[1]
    if places is None:
        return max(0, len(text) - count)
    return places[-count] if count <= len(places) else 0


def without_unread(text: str) -> str:
    """The text without what is left out where it is read."""
    places = fold_text(text)[1]
    return text if places is None else "".join([text[place] for place in places])
