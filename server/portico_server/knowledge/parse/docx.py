"""Word documents: one part for each section by heading, tables row by row."""

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

_HEADING = re.compile(r"heading (\d)", re.I)


def read(source: SourceDocument) -> Iterator[Part]:
    """Sections with the path of headings above them, the title of the document outermost."""
    check_container(source, "Word document", "word/document.xml", ".docx")
    try:
        with source.open() as file:
            document = Document(file)
    except (PackageNotFoundError, KeyError, ValueError, SyntaxError) as error:
        raise Unreadable("is not a whole Word document: parts of it are missing or damaged.") from error
    _write_out_formulas(document.element)
    writer = PartWriter()
    about = titles.clean_title(document.core_properties.title, source.name)
    heading: list[tuple[int, str]] = []
    lines: list[str] = []
    found = False
    for block in document.iter_inner_content():
        level = None if isinstance(block, Table) else _level(block)
        if not isinstance(block, Table) and level is not None and block.text.strip():
            if any(lines):
                found = True
                yield writer.part("\n".join(lines).strip(), heading=_path(about, heading))
            heading = [item for item in heading if item[0] < level]
            heading.append((level, " ".join(block.text.split())))
            lines = [block.text.strip(), ""]
        else:
            lines.extend(_lines(block))
    text = "\n".join(lines).strip()
    if text:
        yield writer.part(text, heading=_path(about, heading))
    elif not found:
        raise Unreadable("contains no text.")


# Formulas, as a line of text: (a + b)/2, x^2, a_n, √(x).

_MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_SCRIPTS = (("_", "sub"), ("^", "sup"))


def _write_out_formulas(root: Any) -> None:
    """Put each formula as a run of text where it stands: what reads paragraphs passes over formulas."""
    for kind in ("oMathPara", "oMath"):
        for node in list(root.iter(f"{_MATH}{kind}")):
            run, text = OxmlElement("w:r"), OxmlElement("w:t")
            text.text = _formula(node)
            run.append(text)
            run.tail = node.tail
            node.getparent().replace(node, run)


def _formula(node: Any) -> str:
    """A part of a formula; what has no rule of its own is what its parts are, one after the other."""
    kind = node.tag.removeprefix(_MATH) if isinstance(node.tag, str) else ""
    if kind == "t":
        return node.text or ""
    if kind == "f":
        return f"{_grouped(node, 'num')}/{_grouped(node, 'den')}"
    if kind in ("sSup", "sSub", "sSubSup", "nary"):
        base = _formula_in(node, "e")
        marks = [f"{mark}{_grouped(node, part)}" for mark, part in _SCRIPTS if _formula_in(node, part)]
        if kind == "nary":
            sign = node.find(f"{_MATH}naryPr/{_MATH}chr")
            return f"{'∫' if sign is None else sign.get(f'{_MATH}val', '')}{''.join(marks)} {base}"
        return base + "".join(marks)
    if kind == "rad":
        return f"{'' if not _formula_in(node, 'deg') else _grouped(node, 'deg')}√({_formula_in(node, 'e')})"
    if kind == "d":
        ends = [node.find(f"{_MATH}dPr/{_MATH}{end}") for end in ("begChr", "endChr")]
        left, right = (
            usual if each is None else each.get(f"{_MATH}val", "")
            for each, usual in zip(ends, "()", strict=True)
        )
        return f"{left}{', '.join(_formula(each) for each in node.findall(f'{_MATH}e'))}{right}"
    if kind == "m":
        rows = node.findall(f"{_MATH}mr")
        return f"[{'; '.join(', '.join(_formula(each) for each in row) for row in rows)}]"
    return "".join(_formula(each) for each in node if not str(each.tag).endswith("Pr"))


def _formula_in(node: Any, part: str) -> str:
    found = node.find(f"{_MATH}{part}")
    return "" if found is None else _formula(found).strip()


def _grouped(node: Any, part: str) -> str:
    """A part, in parentheses if it is more than one name or number."""
    said = _formula_in(node, part)
    return said if said.isalnum() else f"({said})"


def _path(about: str, heading: list[tuple[int, str]]) -> tuple[str, ...]:
    """The headings, below what the document itself says to be its title if the properties of the file have another."""
    path = tuple(title for _, title in heading)
    return path if heading and heading[0][0] == 0 else titles.heading_below(about, path)


def _level(block: Any) -> int | None:
    """The level of a heading, 0 for the title of the document, ``None`` for anything else."""
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
