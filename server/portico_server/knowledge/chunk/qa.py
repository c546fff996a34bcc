"""Questions and answers: each question is a chunk with its answer."""

from __future__ import annotations

import re
from collections.abc import Iterable

from portico_server.knowledge.chunk.spans import Span
from portico_server.knowledge.chunk.units import begun, chunk_units
from portico_server.knowledge.part import Part

_MARKED = re.compile(
    r"^[ \t]*(?:[#>*-]+[ \t]+)?(?:\*\*)?"
    r"(?:Q|Question|FAQ|问|問|问题|問題|提问)[ \t]*\d*[ \t]*[.):、：]",
    re.M | re.I,
)
_ASKED = re.compile(r"^[^\n]{2,300}[?？][*_\")”」 \t]*$", re.M)


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """A question with its answer each; an answer wider than ``size`` columns is cut between sentences."""
    return chunk_units(parts, _pairs, size, overlap, together=False)


def _pairs(text: str) -> Iterable[Span]:
    starts = [match.start() for match in _MARKED.finditer(text)]
    # Without marks a line that is a question asks it, such as a heading of a list of frequent ones.
    return begun(text, starts or [match.start() for match in _ASKED.finditer(text)])
