"""Normalizes text for detectors, so that characters that look alike are compared as equal."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

_NO_WIDTH: Final = "\u200b"
"""Character to which all zero-width characters are folded before they are removed."""


class _Fold(dict[int, int]):
    """Maps each character to one normalized character. Entries of the Basic Multilingual Plane are cached on first
    use.
    """

    def __missing__(self, code: int) -> int:
        char = chr(code)
        read = code
        if unicodedata.category(char) == "Cf" or code in _INVISIBLE or 0xE0100 <= code <= 0xE01EF:
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


_INVISIBLE: Final = frozenset(
    (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x3164, *range(0xFE00, 0xFE10), 0xFFA0)
)
"""Characters without a glyph that Unicode does not count as format characters: fillers and variation selectors."""


_DASHES: Final = frozenset((0x2010, 0x2011, 0x2012, 0x2013, 0x2212, 0xFE63, 0xFF0D))


_FOLD: Final = _Fold()


def fold_text(text: str) -> tuple[str, Sequence[int] | None]:
    """Return the normalized text, and the original position of each remaining character if any characters were
    removed.
    """
    if text.isascii():
        return text, None
    folded_text = text.translate(_FOLD)
    if _NO_WIDTH not in folded_text:
        return folded_text, None
    places = [place for place, char in enumerate(folded_text) if char != _NO_WIDTH]
    return folded_text.replace(_NO_WIDTH, ""), places


def last_read(text: str, count: int) -> int:
    """Return the position where the last ``count`` visible characters begin."""
    places = fold_text(text)[1]
    if places is None:
        return max(0, len(text) - count)
    return places[-count] if count <= len(places) else 0


def without_unread(text: str) -> str:
    """Return the text without the characters that normalization removes."""
    places = fold_text(text)[1]
    return text if places is None else "".join([text[place] for place in places])
