"""Word documents: one part per section, with headings as boundaries; tables row by row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from docx import Document
from docx.opc.exceptions import PackageNotFoundError
from docx.oxml.simpletypes import ST_Merge
from docx.table import Table, _Cell

from portico_server.features.chunkers.document import NotRead, Part, PartWriter, SourceDocument, Unreadable
from portico_server.features.readers import section as titles
from portico_server.features.readers.container import check_container
from portico_server.features.readers.docx_numbers import ItemNumbers
from portico_server.features.readers.docx_tree import page_lines, part_tree, show_all_text

_HEADING = re.compile(r"heading (\d)", re.I)


def read(source: SourceDocument) -> Iterator[Part | NotRead]:
    """Yield sections, each with the path of headings above it, which begins with the title of the document.

    The last part consists of the headers and footers of the pages.
    """
    check_container(source, "Word document", "word/document.xml", ".docx")
    try:
        with source.open() as file:
            document = Document(file)
    except (PackageNotFoundError, KeyError, ValueError, SyntaxError) as error:
        raise Unreadable("is not a complete Word document: parts of it are missing or damaged.") from error
    relations = document.part.rels
    silent_picture_count = show_all_text(document.element, relations)
    writer = PartWriter()
    about = titles.clean_title(document.core_properties.title, source.name)
    numbers = _item_numbers(document)
    styles = {style.style_id: style.name or "" for style in document.styles}
    heading: list[tuple[int, str]] = []
    lines: list[str] = []
    has_found = False
    for block in document.iter_inner_content():
        style = "" if isinstance(block, Table) else styles.get(block._p.style or "", "")
        level = _level(style)
        if not isinstance(block, Table) and level is not None and block.text.strip():
            if any(lines):
                has_found = True
                yield writer.part("\n".join(lines).strip(), heading=_path(about, heading))
            heading = [item for item in heading if item[0] < level]
            title = f"{numbers.label(block._p)} {block.text.strip()}".strip()
            heading.append((level, " ".join(title.split())))
            lines = [title, ""]
        else:
            lines.extend(_lines(block, style, numbers))
    page_heading: list[tuple[int, str]] = []
    endings = (("\n".join(lines).strip(), heading), ("\n".join(page_lines(relations)), page_heading))
    for text, headings in endings:
        if text:
            has_found = True
            yield writer.part(text, heading=_path(about, headings))
    if not has_found:
        raise Unreadable("contains no text.")
    if silent_picture_count:
        yield NotRead(f"{silent_picture_count:,} picture(s) without a description")


def _path(about: str, heading: list[tuple[int, str]]) -> tuple[str, ...]:
    """Return the headings, below the title in the document's properties ``about`` if that title differs from the first
    heading.
    """
    path = tuple(title for _, title in heading)
    return path if heading and heading[0][0] == 0 else titles.heading_below(about, path)


def _level(style: str) -> int | None:
    """Return the level of a heading, 0 for the title of the document, or ``None`` for another style."""
    match = _HEADING.fullmatch(style)
    return int(match.group(1)) if match else 0 if style == "Title" else None


def _item_numbers(document: Any) -> ItemNumbers:
    relations = document.part.rels.values()
    trees = [part_tree(relation) for relation in relations if relation.reltype.endswith("/numbering")]
    return ItemNumbers(trees[0] if trees else None, document.styles.element)


def _lines(block: Any, style: str, numbers: ItemNumbers) -> list[str]:
    if not isinstance(block, Table):
        text = _paragraph(block, style, numbers)
        return [text, ""] if text else []
    return [*(" | ".join(cells) for cells in _rows(block, numbers) if any(cells)), ""]


def _paragraph(block: Any, style: str, numbers: ItemNumbers) -> str:
    """Return the text of a paragraph with its number. Word also counts items without text."""
    label = numbers.label(block._p) or ("-" if "List" in style else "")
    text: str = block.text.strip()
    return f"{label} {text}".strip() if text else ""


def _rows(table: Any, numbers: ItemNumbers) -> Iterator[list[str]]:
    """Yield the texts of each row. A cell that is merged with the cell above repeats the beginning of its text.

    python-docx lists a merged cell once for each of its columns, and looks for its text from row to row.
    """
    above: dict[int, str] = {}
    for row in table._tbl.tr_lst:
        texts: dict[int, str] = {}
        column = row.grid_before
        for cell in row.tc_lst:
            if cell.vMerge == ST_Merge.CONTINUE and column in above:
                texts[column] = above[column][: titles.MAX_TITLE_CHARS]
            else:
                texts[column] = _cell_text(_Cell(cell, table), numbers)
            column += cell.grid_span
        yield list(texts.values())
        above = texts


def _cell_text(cell: _Cell, numbers: ItemNumbers) -> str:
    """Return the text of a cell in one line, with the rows of a table inside it."""
    texts: list[str] = []
    for block in cell.iter_inner_content():
        if isinstance(block, Table):
            texts += (" | ".join(filter(None, row)) for row in _rows(block, numbers))
        else:
            texts.append(_paragraph(block, "", numbers))
    return " ".join(" ".join(texts).split())
