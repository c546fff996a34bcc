"""What can be quoted of a passage: sentences, items of lists, rows of tables, code. Pure functions over offsets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from portico_server.apps.answer.sentences import Span, sentences

MAX_BLOCK_CHARACTERS = 900
"""A list or code after its lead-in that is quoted as a whole; of a longer one the parts."""

MAX_ITEM_CHARACTERS = 320
"""An item of a list that is quoted as a whole; of a longer one the sentences."""

_FENCE = re.compile(r"[ \t]*(```+|~~~+)")
_HEADING = re.compile(r"#{1,6}\s|<!--")
_ITEM = re.compile(r"[ \t]*(?:[-*+•‣◦]|\d{1,3}[.)、]|[（(]?[一二三四五六七八九十]{1,3}[)）、])[ \t]*\S")
_NESTED = re.compile(r"[ \t]{2,}\S")
_ROW = re.compile(r"[ \t]*\|.*\||.*\S \| \S.*")
_RULE = re.compile(r"[ \t]*\|?[ \t:|-]*-[ \t:|-]*\|?[ \t]*$")
_UNDERLINE = re.compile(r"[=-]{3,}[ \t]*$")


@dataclass(frozen=True, slots=True)
class Unit:
    """A quotable piece of a passage: from ``start`` to ``end`` of its text.

    ``lead`` is quoted before it: the header of its table, the words that introduce its list.
    """

    start: int
    end: int
    kind: str = "sentence"
    lead: Span | None = None


@dataclass(frozen=True, slots=True)
class _Block:
    kind: str
    start: int
    end: int


def units(text: str, *, code: bool = False, headings: tuple[str, ...] = ()) -> list[Unit]:
    """The quotable pieces of ``text`` in order; ``code`` for a passage that is source code or data as a whole.

    Headings answer nothing and are left out, those of ``headings`` also where nothing marks them.
    """
    if code:
        return [Unit(start, end, "code") for start, end in _parts(text, 0, len(text))]
    found: list[Unit] = []
    blocks = [block for block in _blocks(text) if text[block.start : block.end].strip() not in headings]
    lead: Span | None = None
    header: Span | None = None
    for number, block in enumerate(blocks):
        if block.kind == "table" and (number == 0 or blocks[number - 1].kind != "table"):
            header = None
        if block.kind == "prose":
            spans = sentences(text[block.start : block.end])
            found += (Unit(block.start + start, block.start + end) for start, end in spans)
            last = found[-1] if spans else None
            lead = (last.start, last.end) if last and text[last.end - 1] in ":：" else None
        elif block.kind == "table":
            rows, header = _rows(text, block, header)
            found += rows
        else:
            if lead is not None and found and block.end - lead[0] <= MAX_BLOCK_CHARACTERS:
                found[-1] = Unit(lead[0], block.end, "code" if block.kind == "code" else "list")
            if block.kind == "list":
                found += _items(text, block, lead)
            elif lead is None or block.end - lead[0] > MAX_BLOCK_CHARACTERS:
                found += (Unit(start, end, "code") for start, end in _parts(text, block.start, block.end))
            lead = None
    return found


def _blocks(text: str) -> Iterator[_Block]:
    """Runs of lines of one kind: prose, list, table, code; headings and rules are left out."""
    kind, start, end = "", 0, 0
    fence = ""
    for begin, line in _lines(text):
        stop = begin + len(line.rstrip())
        if fence:
            end = stop
            if line.strip().startswith(fence):
                yield _Block("code", start, end)
                kind = fence = ""
            continue
        opened = _FENCE.match(line)
        now = _kind(line, kind)
        if opened is not None or now != kind or (not now and kind):
            if kind:
                yield _Block(kind, start, end)
            kind, start = now, begin
        if opened is not None:
            fence, kind, start = opened[1], "code", begin
        if line.strip():
            end = stop
    if kind:
        yield _Block(kind, start, end)


def _kind(line: str, before: str) -> str:
    """The kind of block that ``line`` belongs to, ``""`` for none, given the kind of the one before it."""
    bare = line.strip()
    if not bare:
        return "list" if before == "list" else ""
    if _HEADING.match(bare) or _UNDERLINE.match(bare):
        return ""
    if _ROW.match(line) or (before == "table" and _RULE.match(line)):
        return "table"
    if _ITEM.match(line) or (before == "list" and _NESTED.match(line)):
        return "list"
    return "prose"


def _lines(text: str) -> Iterator[tuple[int, str]]:
    begin = 0
    for line in text.splitlines(keepends=True):
        yield begin, line
        begin += len(line)


def _rows(text: str, block: _Block, header: Span | None) -> tuple[list[Unit], Span | None]:
    """A unit for each row of a table. Its first row is its header, together with the rule below it."""
    lines = [
        (block.start + begin, block.start + begin + len(line.rstrip()), line)
        for begin, line in _lines(text[block.start : block.end])
        if line.strip()
    ]
    rules = [place for place, (_start, _end, line) in enumerate(lines) if _RULE.match(line)]
    if header is None and (len(lines) > 1 or not rules) and lines and not _starts_within(lines, rules):
        header = (lines[0][0], lines[1][1] if rules == [1] else lines[0][1])
    return [
        Unit(start, end, "row", header)
        for place, (start, end, _line) in enumerate(lines)
        if place not in rules and (header is None or start >= header[1])
    ], header


def _starts_within(lines: list[tuple[int, int, str]], rules: list[int]) -> bool:
    """Whether a table of Markdown lacks its beginning: then there is no rule below its first row."""
    return lines[0][2].lstrip().startswith("|") and 1 not in rules


def _items(text: str, block: _Block, lead: Span | None) -> Iterator[Unit]:
    """A unit for each item of a list, or for each sentence of a long one."""
    starts = [
        block.start + begin
        for begin, line in _lines(text[block.start : block.end])
        if _ITEM.match(line) and not (_NESTED.match(line) and begin)
    ] or [block.start]
    for start, end in zip(starts, [*starts[1:], block.end], strict=True):
        piece = text[start:end]
        first, last = start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
        if last - first <= MAX_ITEM_CHARACTERS:
            yield Unit(first, last, "item", lead)
        else:
            yield from (Unit(first + a, first + b, "sentence", lead) for a, b in sentences(text[first:last]))


def _parts(text: str, start: int, end: int) -> Iterator[Span]:
    """Code as a whole if it is short, otherwise its paragraphs."""
    if end - start <= MAX_BLOCK_CHARACTERS:
        pieces = [(start, end)]
    else:
        cuts = [match.span() for match in re.finditer(r"\n[ \t]*\n", text[start:end])]
        begins = [start, *(start + cut[1] for cut in cuts)]
        pieces = list(zip(begins, [*(start + cut[0] for cut in cuts), end], strict=True))
    for begin, stop in pieces:
        piece = text[begin:stop]
        if piece.strip():
            yield begin, begin + len(piece.rstrip())
