"""What a sheet shows beside its cells: text boxes, pictures, charts, and the headers and footers of its pages."""

from __future__ import annotations

import html
import re
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any, Final

from portico_server.features.readers.container import optional_tree
from portico_server.features.readers.office_graphics import (
    REFERENCES,
    description_line,
    graphic_lines,
    remove_fallbacks,
)
from portico_server.features.readers.opendocument_text import DRAW

DOCUMENT_KIND: Final = "spreadsheet"

MAX_DRAWINGS: Final = 1_000
"""Maximum number of drawings of a sheet in an ods file that are read."""

MAX_PAGE_LINES_BYTES: Final = 20_000
"""Maximum length of the headers and footers of a sheet's pages, in bytes."""

_A: Final = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_XDR: Final = "{http://schemas.openxmlformats.org/drawingml/2006/spreadsheetDrawing}"

_PAGE_LINE = re.compile(rb"<(?:\w+:)?(?:odd|even|first)(?:Header|Footer)[^<>]*>([^<>]*)</")
_SECTION = re.compile(r"&[LCR]")
_CODE = re.compile(r'&(?:"[^"]*"|K[0-9A-Fa-f]{6}|K\d\d[+-]\d{3}|\d{1,3}|[A-KM-QS-Z])')
"""Codes of headers and footers (ECMA-376 part 1, 18.3.1.46): formats, and fields such as the number of the page."""


def drawing_lines(
    archive: zipfile.ZipFile, name: str, related_parts: Iterable[tuple[str, str]]
) -> Iterator[str]:
    """Yield the texts of the drawings of an xlsx sheet, which are in the part ``name``.

    ``related_parts`` are the parts that it refers to, each with its relationship id.
    """
    drawing = optional_tree(archive, name, DOCUMENT_KIND)
    if drawing is None:
        return
    remove_fallbacks(drawing)
    parts = dict(related_parts)
    for anchor in drawing:
        properties = anchor.find(f".//{_XDR}cNvPr")
        if properties is not None and properties.get("hidden") in ("1", "true"):
            continue
        for paragraph in anchor.iter(f"{_A}p"):
            yield "".join(text.text or "" for text in paragraph.iter(f"{_A}t"))
        for item in anchor.iter(f"{_XDR}cNvPr"):
            yield description_line(item.get("descr"))
        for item in anchor.iter(*REFERENCES):
            part = parts.get(item.get(REFERENCES[item.tag], ""), "")
            graphic = optional_tree(archive, part, DOCUMENT_KIND)
            if graphic is not None:
                yield from graphic_lines(graphic)


def drawings_in(item: Any) -> Iterator[Any]:
    """Yield the drawings directly in an element of an ods file."""
    return (
        child for child in item.iterchildren() if isinstance(child.tag, str) and child.tag.startswith(DRAW)
    )


def page_lines(sheet: bytes) -> Iterator[str]:
    """Yield the lines of the headers and footers of the pages of an xlsx sheet."""
    start = sheet.find(b"headerFooter", max(0, sheet.rfind(b"sheetData>")))
    for match in _PAGE_LINE.finditer(sheet, start, start + MAX_PAGE_LINES_BYTES) if start > 0 else ():
        text = html.unescape(match[1].decode("utf-8", "replace"))
        for section in _SECTION.split(text.replace("&&", "\x00")):
            yield " ".join(_CODE.sub("", section).replace("\x00", "&").split())
