"""Word documents: one part per section, with headings as boundaries; tables row by row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from docx import Document
from docx.opc.exceptions import PackageNotFoundError
from docx.oxml import OxmlElement
from docx.table import Table

from portico_server.knowledge.document import Part, PartWriter, SourceDocument, Unreadable
from portico_server.knowledge.parse import section as titles
from portico_server.knowledge.parse.container import check_container
from portico_server.knowledge.parse.formulas import MATH, formula_text

_HEADING = re.compile(r"heading (\d)", re.I)


def read(source: SourceDocument) -> Iterator[Part]:
    """Yield sections, each with the path of headings above it, which begins with the title of the document."""
    check_container(source, "Word document", "word/document.xml", ".docx")
    try:
        with source.open() as file:
            document = Document(file)
    except (PackageNotFoundError, KeyError, ValueError, SyntaxError) as error:
        raise Unreadable("is not a complete Word document: parts of it are missing or damaged.") from error
    _write_out_formulas(document.element)
    writer = PartWriter()
    about = titles.clean_title(document.core_properties.title, source.name)
    heading: list[tuple[int, str]] = []
    lines: list[str] = []
    has_found = False
    for block in document.iter_inner_content():
        level = None if isinstance(block, Table) else _level(block)
        if not isinstance(block, Table) and level is not None and block.text.strip():
            if any(lines):
                has_found = True
                yield writer.part("\n".join(lines).strip(), heading=_path(about, heading))
            heading = [item for item in heading if item[0] < level]
            heading.append((level, " ".join(block.text.split())))
            lines = [block.text.strip(), ""]
        else:
            lines.extend(_lines(block))
    text = "\n".join(lines).strip()
    if text:
        yield writer.part(text, heading=_path(about, heading))
    elif not has_found:
        raise Unreadable("contains no text.")


def _write_out_formulas(root: Any) -> None:
    """Replace each formula with a run of text, because the paragraph reader skips formulas."""
    for kind in ("oMathPara", "oMath"):
        for node in list(root.iter(f"{MATH}{kind}")):
            run, text = OxmlElement("w:r"), OxmlElement("w:t")
            text.text = formula_text(node)
            run.append(text)
            run.tail = node.tail
            node.getparent().replace(node, run)


def _path(about: str, heading: list[tuple[int, str]]) -> tuple[str, ...]:
    """Return the headings, below the title in the document's properties ``about`` if that title differs from the first
    heading.
    """
    path = tuple(title for _, title in heading)
    return path if heading and heading[0][0] == 0 else titles.heading_below(about, path)


def _level(block: Any) -> int | None:
    """Return the level of a heading, 0 for the title of the document, or ``None`` if the block is not a heading."""
    style = getattr(block, "style", None)
    name = str(getattr(style, "name", "") or "")
    match = _HEADING.fullmatch(name)
    return int(match.group(1)) if match else 0 if name == "Title" else None


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
