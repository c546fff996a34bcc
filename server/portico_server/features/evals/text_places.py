"""Where the chunks of a store contain a passage: whole, cut across several chunks, or nowhere. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

from portico_server.core.training_passages import StorePassage

TextPlace: TypeAlias = Literal["whole", "cut", "missing"]

MAX_OVERLAP_CHARS: Final = 4_000
"""Maximum length of the text that two neighbouring chunks share, in characters without spaces."""

EDGE_CHARS: Final = 8
"""Length of the ends of a passage by which its file is recognized, in characters without spaces."""


def locate(passages: Sequence[str], chunks: Sequence[StorePassage]) -> list[TextPlace]:
    """Return the place of each passage. The chunks of a file are in their order in the file."""
    files: dict[str, list[str]] = {}
    for chunk in chunks:
        files.setdefault(chunk.file, []).append(_letters(chunk.text))
    return [_locate(_letters(passage), files) for passage in passages]


def _locate(passage: str, files: Mapping[str, Sequence[str]]) -> TextPlace:
    place: TextPlace = "missing"
    for texts in files.values():
        if any(passage in text for text in texts):
            return "whole"
        edges = (passage[:EDGE_CHARS], passage[-EDGE_CHARS:])
        if any(edge in text for text in texts for edge in edges) and passage in _join(texts):
            place = "cut"
    return place


def _letters(text: str) -> str:
    """Return a text without spaces, because chunkers change them."""
    return "".join(text.split()).casefold()


def _join(texts: Sequence[str]) -> str:
    """Return the text of a file from its chunks, which may overlap."""
    file_text = ""
    for text in texts:
        longest = min(len(file_text), len(text), MAX_OVERLAP_CHARS)
        overlap = next((size for size in range(longest, 0, -1) if file_text.endswith(text[:size])), 0)
        file_text += text[overlap:]
    return file_text
