"""OpenDocument texts and presentations (odt, odp): sections with headings as boundaries, or slides with notes; tables
row by row.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from typing import Any

from portico_server.core.words import whole_number
from portico_server.features.chunkers.document import Part, PartWriter, SourceDocument, Unreadable
from portico_server.features.readers import section as titles
from portico_server.features.readers.container import open_checked, tree

DOCUMENT_KIND = "OpenDocument file"

_NAMES = "{urn:oasis:names:tc:opendocument:xmlns:"
TEXT = f"{_NAMES}text:1.0}}"
TABLE = f"{_NAMES}table:1.0}}"
OFFICE = f"{_NAMES}office:1.0}}"
_DRAW = f"{_NAMES}drawing:1.0}}"
_SHOW = f"{_NAMES}presentation:1.0}}"
_CRYPT = f"{_NAMES}manifest:1.0}}encryption-data"
_SKIPPED_ELEMENTS = {
    f"{TEXT}tracked-changes",
    f"{OFFICE}annotation",
    f"{TEXT}note-citation",
    f"{_SHOW}notes",
}
"""Elements whose content is not part of the text."""

_ROW_GROUPS = {f"{TABLE}table-header-rows", f"{TABLE}table-rows", f"{TABLE}table-row-group"}

MAX_SPACES = 100
"""Maximum number of consecutive spaces. The file states only how many there are, so the number could be any."""


def read(source: SourceDocument) -> Iterator[Part]:
    """Yield sections, each with the headings above it, which begin with the document's title. ``page`` is the number
    of a slide.
    """
    with source.open() as file:
        archive = open_checked(file, DOCUMENT_KIND, "content.xml", ".odt")
        if "META-INF/manifest.xml" in archive.NameToInfo and any(
            True for _ in tree(archive, "META-INF/manifest.xml", DOCUMENT_KIND).iter(_CRYPT)
        ):
            raise Unreadable("is protected by a password. Add a copy without a password.")
        body = tree(archive, "content.xml", DOCUMENT_KIND).find(f"{OFFICE}body")
        about = _about(archive, source.name)
    writer = PartWriter()
    has_parts = False
    for inside in () if body is None else body:
        slides = inside.tag == f"{OFFICE}presentation"
        for part in (_slides if slides else _sections)(inside, about, writer):
            has_parts = True
            yield part
    if not has_parts:
        raise Unreadable("contains no text.")


def _about(archive: zipfile.ZipFile, name: str) -> str:
    if "meta.xml" not in archive.NameToInfo:
        return ""
    return titles.clean_title(
        tree(archive, "meta.xml", DOCUMENT_KIND).findtext(f".//{titles.TITLE_ELEMENT}"), name
    )


def _sections(inside: Any, about: str, writer: PartWriter) -> Iterator[Part]:
    path: list[tuple[int, str]] = []
    lines: list[str] = []

    def part() -> Iterator[Part]:
        text = "\n".join(lines).strip()
        if text:
            yield writer.part(
                text, heading=titles.heading_below(about, tuple(lines_of_frame for _, lines_of_frame in path))
            )
        lines.clear()

    for level, line in _lines(inside):
        if level and line:
            yield from part()
            path = [item for item in path if item[0] < level]
            path.append((level, line))
        if line:
            lines.extend((line, "") if level else (line,))
    yield from part()


def _slides(inside: Any, about: str, writer: PartWriter) -> Iterator[Part]:
    for number, page in enumerate(inside.iter(f"{_DRAW}page"), start=1):
        title, lines = "", list[str]()
        for frame in page.iterchildren():
            if frame.tag in _SKIPPED_ELEMENTS:
                continue
            lines_of_frame = [line for _, line in _lines(frame) if line]
            if frame.get(f"{_SHOW}class") == "title" and not title:
                title = " ".join(lines_of_frame)
            else:
                lines.extend(lines_of_frame)
        notes = [line for note in page.iterchildren(f"{_SHOW}notes") for _, line in _lines(note) if line]
        lines += ["", f"Notes: {chr(10).join(notes)}"] if notes else []
        text = "\n".join([*([title] if title else []), *lines]).strip()
        if text:
            yield writer.part(
                text, page=number, heading=titles.heading_below(about, (title,) if title else ())
            )


def _lines(node: Any) -> Iterator[tuple[int, str]]:
    """Yield lines, each with its heading level, or 0 if the line is not a heading."""
    for item in node.iterchildren():
        if item.tag in _SKIPPED_ELEMENTS or not isinstance(item.tag, str):
            continue
        if item.tag == f"{TEXT}h":
            level = item.get(f"{TEXT}outline-level", "1")
            yield whole_number(level, 2) or 1, _text_of(item)
        elif item.tag == f"{TEXT}p":
            yield 0, _text_of(item)
        elif item.tag == f"{TABLE}table":
            for row in _rows(item):
                cells = [
                    " ".join(line for _, line in _lines(cell) if line)
                    for cell in row.iterchildren(f"{TABLE}table-cell")
                ]
                if any(cells):
                    yield 0, " | ".join(cells)
        elif item.tag == f"{TEXT}list-item":
            first, *other_lines = list(_lines(item)) or [(0, "")]
            yield first[0], f"- {first[1]}" if first[1] and not first[0] else first[1]
            yield from other_lines
        else:
            yield from _lines(item)


def _rows(table: Any) -> Iterator[Any]:
    """Yield the rows of a table, without those of the tables in its cells."""
    for item in table.iterchildren():
        if item.tag == f"{TABLE}table-row":
            yield item
        elif item.tag in _ROW_GROUPS:
            yield from _rows(item)


def _text_of(node: Any) -> str:
    return "".join(_pieces(node)).strip()


def _pieces(node: Any) -> Iterator[str]:
    yield _flat(node.text)
    for item in node.iterchildren():
        if item.tag == f"{TEXT}s":
            count = item.get(f"{TEXT}c", "1")
            yield " " * min(whole_number(count) or 1, MAX_SPACES)
        elif item.tag in (f"{TEXT}tab", f"{TEXT}line-break"):
            yield "\t" if item.tag.endswith("tab") else "\n"
        elif item.tag == f"{TEXT}note":
            yield f" ({' '.join(line for _, line in _lines(item) if line)})"
        elif item.tag not in _SKIPPED_ELEMENTS and isinstance(item.tag, str):
            yield from _pieces(item)
        yield _flat(item.tail)


def _flat(text: str | None) -> str:
    """Return a text with each run of white space replaced by a single space."""
    return re.sub(r"[ \t\r\n]+", " ", text or "").replace("\x00", "")
