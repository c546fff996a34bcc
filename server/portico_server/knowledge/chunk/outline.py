"""Outline: plain text whose headings are numbered (``1.2 Scope``, ``Chapter IV``, ``第一章``), in sections."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from portico_server.knowledge.chunk.paragraph import paragraphs
from portico_server.knowledge.chunk.spans import Span, carve_each
from portico_server.knowledge.chunk.units import begun, spans
from portico_server.knowledge.part import Part

_HEADING = re.compile(
    r"^[ \t\u3000]*(?:第[一二三四五六七八九十百千零〇两\d]+[章节節回卷部篇集][^\n]{0,60}"
    r"|(?:chapter|part|book|act|scene|appendix)[ \t]+[\divxlca-z]+\b[^\n]{0,80}"
    r"|(?:\d{1,3}\.)+\d{0,3}[ \t]+[^\n]{2,80}(?<![.。;；,，])"
    r"|[一二三四五六七八九十]{1,3}、[^\n]{2,60}(?<![。;；,，])"
    r"|[IVXLC]{1,6}\.[ \t]+[^\n]{2,80}(?<![.;,]))[ \t]*$",
    re.M | re.I,
)


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Sections up to ``size`` columns, their title the innermost heading of all of their chunks."""
    chunks: list[Part] = []
    for part in parts:
        text = part.text
        found: list[tuple[Span, str]] = []
        for start, end in begun(text, (match.start() for match in _HEADING.finditer(text))):
            match = _HEADING.match(text, start)
            title = " ".join(match.group().split()) if match else ""
            inner = spans(text[start:end], paragraphs, size, overlap)
            found.extend(((start + a, start + b), title) for a, b in inner)
        chunks.extend(_under(item, title) for item, title in carve_each(part, found))
    return chunks


def _under(item: Part, title: str) -> Part:
    if not title:
        return item
    return Part(item.text, replace(item.place, heading=(*item.place.heading, title)))
