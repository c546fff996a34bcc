"""Chunkers for speech: turns of a dialogue, subtitles, questions with their answers."""

from __future__ import annotations

import re
from collections.abc import Iterable

from portico_server.features.chunkers.document import Part
from portico_server.features.chunkers.spans import Span
from portico_server.features.chunkers.units import chunk_runs, chunk_units, group_adjacent, units_from

_TURN = re.compile(
    r"^[ \t]*(?:[-–*•][ \t]+)?(?:[\[(]?\d{1,2}:\d{2}(?::\d{2})?[\])]?[ \t]*)?"
    r"(?:\*\*|<)?[^\W\d_][^:：\n。.!?！？]{0,39}(?:\*\*|>)?(?::(?:\*\*)?[ \t\n]|：)",
    re.M,
)


def chunk_dialogue(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Pack turns (``Name: what was said``) up to ``size`` columns. Each chunk repeats the last turns of the previous
    chunk.
    """
    return chunk_units(parts, _turns, size, overlap)


def _turns(text: str) -> Iterable[Span]:
    return units_from(text, (match.start() for match in _TURN.finditer(text)))


def chunk_subtitles(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Pack cues up to ``size`` columns. Each chunk repeats the last cues of the previous chunk."""
    chunks: list[Part] = []
    for run in group_adjacent(parts, lambda part, other_part: part.place.heading == other_part.place.heading):
        chunks.extend(chunk_runs(run, size, overlap))
    return chunks


_QUESTION_MARK = re.compile(
    r"^[ \t]*(?:[#>*-]+[ \t]+)?(?:\*\*)?"
    r"(?:Q|Question|FAQ|问|問|问题|問題|提问)[ \t]*\d*[ \t]*[.):、：]",
    re.M | re.I,
)
_QUESTION_LINE = re.compile(r"^[^\n]{2,300}[?？][*_\")”」 \t]*$", re.M)


def chunk_questions(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Return one question with its answer per chunk; split answers wider than ``size`` columns between sentences."""
    return chunk_units(parts, _pairs, size, overlap, together=False)


def _pairs(text: str) -> Iterable[Span]:
    starts = [match.start() for match in _QUESTION_MARK.finditer(text)]
    # If no question is marked as such, each line that is a question starts a unit, for example a heading in
    # an FAQ.
    return units_from(text, starts or [match.start() for match in _QUESTION_LINE.finditer(text)])
