"""Sentences one by one, from which `knowledge.made.meaning` makes chunks: it cuts where the meaning turns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from portico_server.knowledge.chunk.sentence import pieces, sentences
from portico_server.knowledge.part import Part


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Sentences with the white space behind them, so that those that stay together give the text as it was."""
    found: list[Part] = []
    for part in parts:
        line, counted = part.place.line, 0
        for start, end in pieces(part.text, sentences(part.text), size):
            text = part.text[start:end]
            if not text.strip():
                continue
            if line is not None:
                line += part.text.count("\n", counted, start)
                counted = start
            place = replace(part.place, line=line, start=part.place.start + start, end=part.place.start + end)
            found.append(Part(text, place))
    return found
