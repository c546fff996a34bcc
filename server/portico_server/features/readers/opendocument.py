"""OpenDocument texts and presentations (odt, odp): sections with headings as boundaries, or slides with notes; tables
row by row.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from typing import Any

from portico_server.features.chunkers.document import Part, PartWriter, SourceDocument, Unreadable
from portico_server.features.readers import section as titles
from portico_server.features.readers.container import open_checked, tree
from portico_server.features.readers.opendocument_text import (
    DOCUMENT_KIND,
    DRAW,
    OFFICE,
    SHOW,
    ContentReader,
)

_CRYPT = "{urn:oasis:names:tc:opendocument:xmlns:manifest:1.0}encryption-data"


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
        content = tree(archive, "content.xml", DOCUMENT_KIND)
        reader = ContentReader(archive, content)
        about = _about(archive, source.name)
        writer = PartWriter()
        has_parts = False
        for part in _parts(content, reader, about, writer):
            has_parts = True
            yield part
    if not has_parts:
        raise Unreadable("contains no text.")


def _parts(content: Any, reader: ContentReader, about: str, writer: PartWriter) -> Iterator[Part]:
    body = content.find(f"{OFFICE}body")
    for inside in () if body is None else body:
        slides = inside.tag == f"{OFFICE}presentation"
        yield from (_slides if slides else _sections)(inside, reader, about, writer)
        page_lines = [] if slides else titles.without_page_numbers(reader.page_lines())
        if page_lines:
            yield writer.part("\n".join(page_lines), heading=titles.heading_below(about, ()))


def _about(archive: zipfile.ZipFile, name: str) -> str:
    if "meta.xml" not in archive.NameToInfo:
        return ""
    return titles.clean_title(
        tree(archive, "meta.xml", DOCUMENT_KIND).findtext(f".//{titles.TITLE_ELEMENT}"), name
    )


def _sections(inside: Any, reader: ContentReader, about: str, writer: PartWriter) -> Iterator[Part]:
    path: list[tuple[int, str]] = []
    lines: list[str] = []

    def part() -> Iterator[Part]:
        text = "\n".join(lines).strip()
        if text:
            yield writer.part(
                text, heading=titles.heading_below(about, tuple(lines_of_frame for _, lines_of_frame in path))
            )
        lines.clear()

    for level, line in reader.lines(inside):
        if level and line:
            yield from part()
            path = [item for item in path if item[0] < level]
            path.append((level, line))
        if line:
            lines.extend((line, "") if level else (line,))
    yield from part()


def _slides(inside: Any, reader: ContentReader, about: str, writer: PartWriter) -> Iterator[Part]:
    for number, page in enumerate(inside.iter(f"{DRAW}page"), start=1):
        title, lines = "", list[str]()
        for frame in page.iterchildren():
            lines_of_frame = [line for _, line in reader.lines_of(frame) if line]
            if frame.get(f"{SHOW}class") == "title" and not title:
                title = " ".join(lines_of_frame)
            else:
                lines.extend(lines_of_frame)
        notes = [line for note in page.iterchildren(f"{SHOW}notes") for _, line in reader.lines(note) if line]
        lines += ["", f"Notes: {chr(10).join(notes)}"] if notes else []
        text = "\n".join([*([title] if title else []), *lines]).strip()
        if text:
            yield writer.part(
                text, page=number, heading=titles.heading_below(about, (title,) if title else ())
            )
