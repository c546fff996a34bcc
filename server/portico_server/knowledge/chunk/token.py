"""Tokens: windows of the same number of tokens, cut between words and wherever a sentence happens to be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from portico_server.knowledge.chunk.sentence import pieces
from portico_server.knowledge.chunk.spans import Span, carve, inside_grapheme, pack
from portico_server.knowledge.part import Part

# A word with the white space behind it; East Asian characters each by themselves.
_EAST = r"\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef"
_WORD = re.compile(rf"[{_EAST}]\s*|[^\s{_EAST}]+\s*|\s+")


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Words packed up to ``size`` columns: four columns are about a token."""
    chunks: list[Part] = []
    for part in parts:
        units = pieces(part.text, _words(part.text), size)
        chunks.extend(carve(part, pack(part.text, units, size, overlap)))
    return chunks


def _words(text: str) -> Iterator[Span]:
    begin = 0
    for match in _WORD.finditer(text):
        if match.end() < len(text) and inside_grapheme(text, match.end()):
            continue
        yield begin, match.end()
        begin = match.end()
