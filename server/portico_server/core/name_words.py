"""The searchable part of a file name: its last parts, in words."""

from __future__ import annotations

import re

MAX_NAME_PARTS = 3
"""Maximum number of parts: the name itself and the folders directly above it."""

_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(
    r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_]{2})(?=\d{2})"
)
"""Boundaries between the words of ``unitPrice``, ``HTTPServer``, ``2024Q3`` and ``IMG1234``."""


def searched_name(path: str) -> str:
    """Return the searchable part of a file's path: a move of a higher folder does not change it."""
    return "/".join(path.split("/")[-MAX_NAME_PARTS:])


def name_in_words(path: str) -> str:
    """Return the searchable name as text: compound words appear whole and split."""
    text = searched_name(path)
    apart = [
        part
        for word in _WORD.findall(text)
        if len(parts := _HUMP.split(word)) > 1
        for part in parts
        if len(part) > 1
    ]
    return " ".join((text, *apart))
