"""CSV and TSV: groups of rows, each below a repeated header."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator

from portico_server.features.chunkers.document import Part, PartWriter, SourceDocument, Unreadable
from portico_server.features.readers.text import open_text

ROW_GROUP_CHARS = 1_000
"""Approximate number of characters in a group of rows."""

_MAX_FIELD_CHARS = 1024 * 1024

_SEPARATOR_LINE = re.compile(r'"?sep=(?P<mark>[^\r\n"])"?(?:\r?\n|\r|\Z)', re.IGNORECASE)
"""A first line that only states the delimiter. Spreadsheet programs do not show it."""

_COMMA_IN_TEXT = re.compile(r"[^\s,],(?: [^\s,]|(?<=\d,)\d)")
"""A comma within a text or a number, such as "Cole, Ben" or "1,200"."""

_NO_DELIMITER = "\x1f"
"""The delimiter of a file with one column: the separator of units in ASCII."""


def read(source: SourceDocument) -> Iterator[Part]:
    """Yield groups of rows. ``row`` is the number of a group's first row, counted as in a spreadsheet, where the
    header is row 1.
    """
    writer = PartWriter()
    header, group, first, width, has_rows = "", list[str](), 2, 0, False
    for number, cells in records(source):
        line = _line(cells)
        if number == 1:
            header = line
            if len(header) > ROW_GROUP_CHARS:
                yield writer.part(header, row=1)
                header, has_rows = short_header(header), True
            continue
        # The rows of a group are consecutive, so the number of each follows from the first.
        if group and (not line or width + len(line) > ROW_GROUP_CHARS):
            yield writer.part("\n".join([header, *group]), row=first)
            group, width = [], 0
        if line:
            first = number if not group else first
            group.append(line)
            width, has_rows = width + len(line), True
    if group or (header and not has_rows):
        yield writer.part("\n".join([header, *group]), row=first if group else 1)


def short_header(header: str) -> str:
    """Return the beginning of a header that is too long to be repeated above each group of rows."""
    return f"{header[:ROW_GROUP_CHARS]} …"


def groups_below(head: str, lines: Iterable[str]) -> Iterator[str]:
    """Join lines into groups of at most the length of a passage, each group below ``head``."""
    pending_lines: list[str] = []
    width = 0
    for line in lines:
        if pending_lines and width + len(line) > ROW_GROUP_CHARS:
            yield "\n".join([head, *pending_lines])
            pending_lines, width = [], 0
            head = head if len(head) <= ROW_GROUP_CHARS else short_header(head)
        pending_lines.append(line)
        width += len(line)
    if pending_lines:
        yield "\n".join([head, *pending_lines])


def records(source: SourceDocument) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a file with their numbers, from 1. Raises `Unreadable`."""
    csv.field_size_limit(_MAX_FIELD_CHARS)
    number = 0
    with open_text(source) as text:
        sample = text.read(64 * 1024)
        text.seek(0)
        if _SEPARATOR_LINE.match(sample):
            text.readline()
        rows = csv.reader((line.replace("\x00", "\ufffd") for line in text), delimiter=delimiter(sample))
        try:
            for number, cells in enumerate(rows, start=1):
                yield number, cells
        except csv.Error as error:
            raise Unreadable(f"is not valid CSV: row {number + 1} cannot be read ({error}).") from error


def _line(cells: list[str]) -> str:
    line = " | ".join(" ".join(cell.split()) for cell in cells)
    return line if line.strip(" |") else ""


def delimiter(sample: str) -> str:
    """Return the delimiter that the first line states (``sep=;``), or the one (comma, semicolon, tab or ``|``) that
    splits the first lines most evenly.

    If the first line has no delimiter and the others have only commas as in a text, the file has one column.
    """
    stated = _SEPARATOR_LINE.match(sample)
    if stated is not None:
        return stated["mark"]
    lines = [line for line in sample.splitlines()[:20] if line.strip()]
    best, limit = ",", 0
    for mark in (",", "\t", ";", "|"):
        counts = [line.count(mark) for line in lines]
        minimum = min(counts, default=0)
        if minimum > limit:
            best, limit = mark, minimum
    other_commas = any("," in _COMMA_IN_TEXT.sub("", row) for row in lines)
    if not limit and lines and "," not in lines[0] and not other_commas:
        return _NO_DELIMITER
    return best
