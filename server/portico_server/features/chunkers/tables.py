"""Chunkers for tables, records and JSON: rows below a repeated header, and JSON values with their paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from portico_server.core.dataclass import dataclass
from portico_server.features.chunkers.document import Part
from portico_server.features.chunkers.sections import divide_markdown
from portico_server.features.chunkers.sentences import cut_wide
from portico_server.features.chunkers.spans import Span, carve, carve_each, cut, pack, width
from portico_server.features.chunkers.units import split_lines

_RANGE = re.compile(r"([A-Z]+)\d+:([A-Z]+)\d+")


def chunk_rows(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Return groups of rows of up to ``size`` columns, including the repeated header. Groups do not overlap, because
    each row is independent.
    """
    del overlap
    chunks: list[Part] = []
    for part in parts:
        if width(part.text) <= size:
            chunks.extend([part] if part.text.strip() else [])
        else:
            chunks.extend(divide_rows(part, size, together=True))
    return chunks


def divide_rows(part: Part, size: int, *, together: bool) -> list[Part]:
    """Return the rows of a part below its header, with their row numbers and cells.

    With ``together``, each chunk contains as many rows as fit; otherwise, each row is a chunk.
    """
    header, _, body = part.text.partition("\n")
    above = 0
    if width(header) > size // 2 or not header.strip() or not body.strip():
        above = -1 if body.strip() else 0  # the number of the part is that of the first row below the header
        header = ""  # too wide to be repeated
    first = len(header) + 1 if header else 0
    free_columns = size - width(header) - 1 if header else size
    rows = list(split_lines(part.text, first, len(part.text)))
    pieces = (piece for row in rows for piece in cut(part.text, row, free_columns))
    spans: list[Span] = pack(part.text, pieces, free_columns, 0) if together else list(pieces)
    if header and spans:
        spans[0] = (0, spans[0][1])
    chunks = []
    start, counted_offset = part.place.start, first
    for item in carve(part, spans, above=header):
        begin, end = max(first, item.place.start - start), item.place.end - start
        above += part.text.count("\n", counted_offset, begin)
        counted_offset = begin
        last = above + part.text.count("\n", begin, end)
        place = item.place
        if place.row is not None:
            top = place.row + max(0, above)
            cells = _RANGE.fullmatch(place.cell or "")
            cell = f"{cells[1]}{top}:{cells[2]}{place.row + max(0, last)}" if cells else place.cell
            place = replace(place, row=top, cell=cell)
        chunks.append(Part(item.text, place))
    return chunks


def chunk_records(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Return one row per chunk, below the table's header. Split rows wider than ``size`` columns."""
    del overlap
    return [item for part in parts for item in divide_rows(part, size, together=False)]


def chunk_tables(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Split like the ``markdown`` chunker, without joining short sections."""
    return [piece for part in parts for piece in divide_markdown(part, size, overlap)]


MAX_DEPTH = 32
"""Maximum nesting depth to which wide values are split into their members."""

# If a string does not end, its match extends to the end of the text, so that the string is scanned only once.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[{}\[\],:]|[^\s{}\[\],:"]+', re.S)
_NAME = re.compile(r"[^\W\d]\w*")

JsonPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _JsonValue:
    """A span with one value, its key and the comma that follows, and the path of the value.

    ``begin`` is the start of the value itself: the span of a list's first value also includes the bracket of the list.
    """

    span: Span
    path: JsonPath
    begin: int


def chunk_json(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Pack values of the same object or list up to ``size`` columns. ``symbol`` is their common path, such as
    ``$.ports[2]``.
    """
    del overlap
    chunks: list[Part] = []
    for part in parts:
        text = part.text
        if part.place.line not in (
            None,
            1,
        ):  # this part is a later segment of a long file, so the path of its values is unknown
            units = cut_wide(text, split_lines(text, 0, len(text)), size)
            chunks.extend(carve(part, pack(text, units, size, 0), is_indented=True))
            continue
        spans: list[tuple[Span, str]] = []
        json_values: list[_JsonValue] = []
        total = 0
        for value in _json_values(text, size):
            wide = width(text[value.span[0] : value.span[1]])
            if json_values and (total + wide > size or json_values[-1].path[:-1] != value.path[:-1]):
                spans.extend(_with_path(text, json_values, size))
                json_values, total = [], 0
            json_values.append(value)
            total += wide
        if json_values:
            spans.extend(_with_path(text, json_values, size))
        for item, symbol in carve_each(part, spans, is_indented=True):
            chunks.append(Part(item.text, replace(item.place, symbol=symbol)))
    return chunks


def _with_path(text: str, values: list[_JsonValue], size: int) -> Iterator[tuple[Span, str]]:
    """Yield spans that cover consecutive values, each with the path that the values share."""
    path = values[0].path
    for value in values[1:]:
        while value.path[: len(path)] != path:
            path = path[:-1]
    span = (values[0].span[0], values[-1].span[1])
    units = cut_wide(text, split_lines(text, *span), size)
    for found_span in pack(text, units, size, 0):
        yield found_span, "".join(path)


def _json_values(text: str, size: int) -> Iterator[_JsonValue]:
    tops = list(_members(text, 0, len(text), ""))
    for value in tops:
        path: JsonPath = ("$",) if len(tops) == 1 else ("$", value.path[0])
        yield from _open_value(text, replace(value, path=path), size, 0)


def _open_value(text: str, value: _JsonValue, size: int, depth: int) -> Iterator[_JsonValue]:
    start, end = value.span
    inside = (
        None
        if depth == MAX_DEPTH or width(text[start:end]) <= size
        else _opening_bracket(text, value.begin, end)
    )
    if inside is None:
        yield value
        return
    members = list(_members(text, inside + 1, end, text[inside]))
    for i, member in enumerate(members):
        # The span of the first member includes the opening bracket, and the span of the last member the
        # closing bracket.
        span = (start if i == 0 else member.span[0], member.span[1])
        inner = replace(member, span=span, path=(*value.path, *member.path))
        yield from _open_value(text, inner, size, depth + 1)
    if not members:
        yield value


def _opening_bracket(text: str, start: int, end: int) -> int | None:
    """Return the position of the bracket that opens a member's value, or ``None`` if the value is not an object or a
    list.
    """
    for match in _TOKEN.finditer(text, start, end):
        word = match.group()
        if word in "{[":
            return match.start()
        if word not in ",:" and word[0] != '"':
            return None
    return None


def _members(text: str, start: int, end: int, bracket: str) -> Iterator[_JsonValue]:
    """Yield the top-level members between ``start`` and ``end``. Without ``bracket``, the members are consecutive JSON
    values.
    """
    depth = number = 0
    begin, key, fresh, is_closed = start, "", True, False
    for match in _TOKEN.finditer(text, start, end):
        word = match.group()
        if depth == 0 and not bracket and is_closed and word != ",":
            yield _JsonValue((begin, match.start()), (f"[{number}]",), begin)
            begin, number, is_closed = match.start(), number + 1, False
        if word in "{[":
            depth += 1
        elif word in "}]":
            if depth == 0:
                break
            depth -= 1
            is_closed = depth == 0
        elif depth == 0 and word == "," and (bracket or is_closed):
            yield _JsonValue((begin, match.end()), (key or f"[{number}]",), begin)
            begin, number, key, fresh, is_closed = match.end(), number + 1, "", True, False
        elif depth == 0:
            if bracket == "{" and fresh:
                key = _path_step(word)
                fresh = False
            is_closed = word not in ",:"
    if begin < end and (text[begin:end].strip(" \t\n\r}],") or number == 0):
        yield _JsonValue((begin, end), (key or f"[{number}]",), begin)
    elif begin < end:
        yield _JsonValue((begin, end), ("",), begin)


def _path_step(word: str) -> str:
    name = word[1:-1] if word.startswith('"') else word
    return f".{name}" if _NAME.fullmatch(name) else f"[{word[:80]}]"
