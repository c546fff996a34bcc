"""The searchable part of a file path: its last components, split into words."""

from __future__ import annotations

import re

MAX_NAME_PARTS = 3
"""Maximum number of path components: the file name and the folders directly above it."""

_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(
    r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_]{2})(?=\d{2})"
)
"""Boundaries between the words in names such as ``unitPrice``, ``HTTPServer``, ``2024Q3`` and ``IMG1234``."""


def searched_name(path: str) -> str:
    """Return the searchable part of a file's path, which stays the same when a higher folder moves."""
    return "/".join(path.split("/")[-MAX_NAME_PARTS:])


def name_in_words(path: str) -> str:
    """Return the searchable part of a path as text, followed by the words of its compound names."""
    text = searched_name(path)
    apart = [
        part
        for word in _WORD.findall(text)
        if len(parts := _HUMP.split(word)) > 1
        for part in parts
        if len(part) > 1
    ]
    return " ".join((text, *apart))
