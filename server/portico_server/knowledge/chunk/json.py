"""JSON: whole values by their path, objects and lists opened only where they are wider than a chunk."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from portico_server.knowledge.chunk.sentence import pieces
from portico_server.knowledge.chunk.spans import Span, carve, carve_each, pack, width
from portico_server.knowledge.chunk.units import lines
from portico_server.knowledge.part import Part

DEPTH = 32
"""How deep values are opened."""

# A string that is not closed goes to the end: it is looked at once.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[{}\[\],:]|[^\s{}\[\],:"]+', re.S)
_NAME = re.compile(r"[^\W\d]\w*")

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Value:
    """A span that holds one value, with its key and the comma behind it, and its path.

    ``begin`` is where the value itself begins: the first one of a list has the bracket of the list in its span.
    """

    span: Span
    path: Path
    begin: int


def chunk(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Values of one object or list packed up to ``size`` columns; ``symbol`` is their path, such as ``$.ports[2]``."""
    del overlap
    chunks: list[Part] = []
    for part in parts:
        text = part.text
        if part.place.line not in (
            None,
            1,
        ):  # a later segment of a long file: where it lies in it is not known
            units = pieces(text, lines(text, 0, len(text)), size)
            chunks.extend(carve(part, pack(text, units, size, 0), indented=True))
            continue
        found: list[tuple[Span, str]] = []
        held: list[_Value] = []
        total = 0
        for value in _values(text, size):
            wide = width(text[value.span[0] : value.span[1]])
            if held and (total + wide > size or held[-1].path[:-1] != value.path[:-1]):
                found.extend(_named(text, held, size))
                held, total = [], 0
            held.append(value)
            total += wide
        if held:
            found.extend(_named(text, held, size))
        for item, symbol in carve_each(part, found, indented=True):
            chunks.append(Part(item.text, replace(item.place, symbol=symbol)))
    return chunks


def _named(text: str, values: list[_Value], size: int) -> Iterator[tuple[Span, str]]:
    """The spans of neighbouring values, with the path that they share."""
    path = values[0].path
    for value in values[1:]:
        while value.path[: len(path)] != path:
            path = path[:-1]
    span = (values[0].span[0], values[-1].span[1])
    units = pieces(text, lines(text, *span), size)
    for found in pack(text, units, size, 0):
        yield found, "".join(path)


def _values(text: str, size: int) -> Iterator[_Value]:
    tops = list(_members(text, 0, len(text), ""))
    for value in tops:
        path: Path = ("$",) if len(tops) == 1 else ("$", value.path[0])
        yield from _opened(text, replace(value, path=path), size, 0)


def _opened(text: str, value: _Value, size: int, depth: int) -> Iterator[_Value]:
    start, end = value.span
    inside = None if depth == DEPTH or width(text[start:end]) <= size else _opening(text, value.begin, end)
    if inside is None:
        yield value
        return
    members = list(_members(text, inside + 1, end, text[inside]))
    for i, member in enumerate(members):
        # The bracket stands with the first member, and what closes it with the last one.
        span = (start if i == 0 else member.span[0], member.span[1])
        inner = replace(member, span=span, path=(*value.path, *member.path))
        yield from _opened(text, inner, size, depth + 1)
    if not members:
        yield value


def _opening(text: str, start: int, end: int) -> int | None:
    """Where the value of a member opens, if it is an object or a list."""
    for match in _TOKEN.finditer(text, start, end):
        word = match.group()
        if word in "{[":
            return match.start()
        if word not in ",:" and word[0] != '"':
            return None
    return None


def _members(text: str, start: int, end: int, bracket: str) -> Iterator[_Value]:
    """The members at the first level between ``start`` and ``end``; with no ``bracket``, values one after the other."""
    depth = number = 0
    begin, key, fresh, closed = start, "", True, False
    for match in _TOKEN.finditer(text, start, end):
        word = match.group()
        if depth == 0 and not bracket and closed and word != ",":
            yield _Value((begin, match.start()), (f"[{number}]",), begin)
            begin, number, closed = match.start(), number + 1, False
        if word in "{[":
            depth += 1
        elif word in "}]":
            if depth == 0:
                break
            depth -= 1
            closed = depth == 0
        elif depth == 0 and word == "," and (bracket or closed):
            yield _Value((begin, match.end()), (key or f"[{number}]",), begin)
            begin, number, key, fresh, closed = match.end(), number + 1, "", True, False
        elif depth == 0:
            if bracket == "{" and fresh:
                key = _step(word)
                fresh = False
            closed = word not in ",:"
    if begin < end and (text[begin:end].strip(" \t\n\r}],") or number == 0):
        yield _Value((begin, end), (key or f"[{number}]",), begin)
    elif begin < end:
        yield _Value((begin, end), ("",), begin)


def _step(word: str) -> str:
    name = word[1:-1] if word.startswith('"') else word
    return f".{name}" if _NAME.fullmatch(name) else f"[{word[:80]}]"
