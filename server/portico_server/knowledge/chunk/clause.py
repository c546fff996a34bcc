"""Clauses of laws, contracts and standards: each is a chunk under its number, chapters and titles with what follows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from portico_server.knowledge.chunk.spans import Span
from portico_server.knowledge.chunk.units import begun, chunk_units, titled
from portico_server.knowledge.part import Part

_NUMBER = r"[一二三四五六七八九十百千零〇两\d]+"
_CLAUSE = re.compile(
    r"^[ \t\u3000]*(?P<name>"
    rf"第{_NUMBER}条(?:之{_NUMBER})?"
    r"|(?:Article|Section|Clause|Rule|Art\.|Sec\.)[ \t]+[\dIVXLC]+(?:\.\d+)*"
    r"|§+[ \t]*\d+\w*"
    r"|\d{1,3}(?:\.\d{1,3}){1,4}(?=\.?[ \t\u3000])"
    r")",
    re.M | re.I,
)
_CHAPTER = re.compile(
    r"^[ \t\u3000]*"
    rf"(?:第{_NUMBER}[编編章节節部分]|(?:Chapter|Part|Title|Schedule|Annex)[ \t]+[\dIVXLCA-Z]+\b)"
    r"[^\n]{0,80}$",
    re.M | re.I,
)


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """One clause each, its number (``第三条``, ``Article 5``) the innermost heading."""
    return titled(chunk_units(parts, _clauses, size, overlap, together=False), _name)


def _clauses(text: str) -> Iterable[Span]:
    clauses = {match.start() for match in _CLAUSE.finditer(text)}
    chapters = {match.start() for match in _CHAPTER.finditer(text)}
    return begun(text, _starts(text, sorted(clauses | chapters), chapters))


def _starts(text: str, marks: list[int], chapters: set[int]) -> Iterator[int]:
    """A chapter's title belongs to its first clause, unless more than the title stands between them."""
    before: int | None = None
    for mark in marks:
        titles = before is not None and before in chapters and text.count("\n", before, mark) <= 3
        if not titles:
            yield mark
        before = mark


def _name(text: str) -> str:
    match = _CLAUSE.search(text)
    return match["name"] if match and not text[: match.start()].strip().count("\n") else ""
