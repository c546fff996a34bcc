"""Word documents: one part for each section by heading, tables row by row."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docx import Document
from docx.opc.exceptions import PackageNotFoundError
from docx.table import Table

from portico_server.knowledge.part import Part, Unreadable, Writer

LARGEST = 256 * 1024 * 1024
"""Bytes that a document may unpack to."""

_ENTRIES = 10_000
_HEADING = re.compile(r"heading (\d)", re.I)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def read(path: Path) -> Iterator[Part]:
    """Sections with the path of headings above them."""
    check(path)

    try:
        with path.open("rb") as file:
            document = Document(file)
    except (PackageNotFoundError, KeyError, ValueError, SyntaxError) as error:
        raise Unreadable("is not a whole Word document: parts of it are missing or damaged.") from error
    writer = Writer()
    heading: list[tuple[int, str]] = []
    lines: list[str] = []
    found = False
    for block in document.iter_inner_content():
        level = 0 if isinstance(block, Table) else _level(block)
        if not isinstance(block, Table) and level and block.text.strip():
            if any(lines):
                found = True
                yield writer.part("\n".join(lines).strip(), heading=tuple(title for _, title in heading))
            heading = [item for item in heading if item[0] < level]
            heading.append((level, " ".join(block.text.split())))
            lines = [block.text.strip(), ""]
        else:
            lines.extend(_lines(block))
    text = "\n".join(lines).strip()
    if text:
        yield writer.part(text, heading=tuple(title for _, title in heading))
    elif not found:
        raise Unreadable("contains no text.")


def check(path: Path) -> None:
    """Refuse what is no Word document, and one that would unpack to more than `LARGEST`, before unpacking any of it."""
    with path.open("rb") as file:
        head = file.read(8)
    if not head:
        raise Unreadable("is empty: there is nothing in it to index.")
    if head == _OLE:
        raise Unreadable(
            "is protected by a password, or in Word's format from before 2007. Save it as .docx without a password."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile as error:
        raise Unreadable("is not a whole Word document: it is damaged or was cut short.") from error
    size = sum(entry.file_size for entry in entries)
    if size > LARGEST or len(entries) > _ENTRIES:
        raise Unreadable(
            f"unpacks to {size // 2**20} MB in {len(entries)} parts; at most {LARGEST // 2**20} MB in {_ENTRIES} "
            "are read."
        )
    if "word/document.xml" not in {entry.filename for entry in entries}:
        raise Unreadable("is not a Word document: it has no 'word/document.xml'.", "unsupported_file")


def _level(block: Any) -> int:
    """The level of a heading, 0 for anything else."""
    style = getattr(block, "style", None)
    name = str(getattr(style, "name", "") or "")
    match = _HEADING.fullmatch(name)
    return int(match.group(1)) if match else 1 if name == "Title" else 0


def _lines(block: Any) -> list[str]:
    if not isinstance(block, Table):
        text = block.text.strip()
        if text and "List" in str(getattr(block.style, "name", "") or ""):
            text = f"- {text}"
        return [text, ""] if text else []
    lines = []
    for row in block.rows:
        cells: list[str] = []
        before: Any = None
        for cell in row.cells:
            if cell._tc is not before:  # a merged cell is listed once for each column
                cells.append(" ".join(cell.text.split()))
            before = cell._tc
        if any(cells):
            lines.append(" | ".join(cells))
    return [*lines, ""]
