"""What of a file's name a search looks at: its last parts, in words."""

from __future__ import annotations

import re

MAX_NAME_PARTS = 3
"""The name itself and the folders right above it, so many in all."""

_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(
    r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_]{2})(?=\d{2})"
)
"""Between the words of ``unitPrice``, ``HTTPServer``, ``2024Q3`` and ``IMG1234``."""


def searched_name(path: str) -> str:
    """The part of a file's path in its store that is looked at: files that are moved further up are found as before."""
    return "/".join(path.split("/")[-MAX_NAME_PARTS:])


def name_in_words(path: str) -> str:
    """The same as a text: words that are written as one stand there whole and apart."""
    text = searched_name(path)
    apart = [
        part
        for word in _WORD.findall(text)
        if len(parts := _HUMP.split(word)) > 1
        for part in parts
        if len(part) > 1
    ]
    return " ".join((text, *apart))
