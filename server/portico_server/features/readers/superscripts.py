"""Superscripts behind a word: references to notes, which are not part of the word, or exponents, which are."""

from __future__ import annotations

import re

_NOTE_NUMBER = re.compile(r"\s*\[?[0-9]{1,3}(?:\s*[,–-]\s*[0-9]{1,3})*\]?\s*|\s*[*†‡§]{1,3}\s*")
_BASE = re.compile(r"(?:^|[\W\d_])[^\W\d_]{1,2}$|\d$")
"""End of a text that may have an exponent: one or two letters, such as a unit, or a digit."""


def superscript_text(text: str, superscript: str) -> str:
    """Return how a superscript is written behind ``text``: ``[1]`` for a reference to a note, otherwise unchanged.

    A number behind one or two letters or a digit is an exponent, as in m², behind a longer word or a mark a reference.
    """
    is_exponent = not text.strip() or _BASE.search(text[-4:]) is not None
    if is_exponent or _NOTE_NUMBER.fullmatch(superscript) is None:
        return superscript
    return f"[{superscript.strip().strip('[]')}]"
