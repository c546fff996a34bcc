"""Changes the tree of a Word document so that python-docx, which reads only direct children, reads what a person sees.

Wrappers are dissolved, and deleted and hidden text is removed. Text boxes, notes, comments and the texts of graphics
follow the paragraph that they belong to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from docx.opc.rel import _Relationship
from docx.oxml import OxmlElement, parse_xml
from docx.oxml.ns import qn
from lxml import etree

from portico_server.core.html import require_memory
from portico_server.features.readers.formulas import MATH, formula_text
from portico_server.features.readers.office_graphics import (
    ALTERNATIVES,
    REFERENCES,
    description_line,
    graphic_lines,
    remove_fallbacks,
)
from portico_server.features.readers.section import without_page_numbers

_DESCRIBED: Final = "{http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing}docPr"
_PICTURES: Final = (
    "{http://schemas.openxmlformats.org/drawingml/2006/picture}pic",
    "{urn:schemas-microsoft-com:vml}imagedata",
)

_VML_SHAPE: Final = "{urn:schemas-microsoft-com:vml}shape"

_WRAPPERS: Final = tuple(
    qn(f"w:{kind}")
    for kind in ("sdt", "sdtContent", "ins", "moveTo", "smartTag", "customXml", "fldSimple", "dir", "bdo")
)
_UNSEEN: Final = tuple(
    qn(f"w:{kind}")
    for kind in ("del", "moveFrom", "sdtPr", "sdtEndPr", "smartTagPr", "customXmlPr", "fldData")
)
_NOTES: Final = {
    qn("w:footnoteReference"): "footnotes",
    qn("w:endnoteReference"): "endnotes",
    qn("w:commentReference"): "comments",
}
"""The part of the package that contains the notes of each kind of reference."""

_SYMBOLS: Final = {"F0FC": "✓", "F0FE": "☒", "F0A8": "☐", "F06F": "☐", "F0B7": "•", "F0E0": "→"}
"""Common symbols of the fonts Wingdings and Symbol, by their codes."""


def show_all_text(root: Any, relations: Mapping[str, _Relationship]) -> int:
    """Change the tree below ``root``; ``relations`` leads to the other parts of the package, by relationship id.

    Return the number of pictures without a description.
    """
    _remove_unseen(root)
    remove_fallbacks(root)
    for node in list(root.iter(ALTERNATIVES)):
        for choice in list(node):
            _dissolve(choice)
        _dissolve(node)
    for wrapper in list(root.iter(*_WRAPPERS)):
        _dissolve(wrapper)
    _write_symbols(root)
    followers = _Followers()
    _add_notes(root, relations, followers)
    silent_picture_count = _add_graphics(root, relations, followers)
    for box in list(root.iter(qn("w:txbxContent"))):
        followers.add(box, list(box))
    return silent_picture_count


def page_lines(relations: Mapping[str, _Relationship]) -> list[str]:
    """Return the distinct lines of the headers and footers of pages, without page numbers."""
    pages = (relation for relation in relations.values() if relation.reltype.endswith(("/header", "/footer")))
    return without_page_numbers(line for relation in pages for line in _texts(part_tree(relation)))


def _remove_unseen(root: Any) -> None:
    """Remove what was deleted or moved elsewhere, and hidden text; a deleted paragraph mark joins two paragraphs."""
    for node in reversed(list(root.iter(*_UNSEEN))):
        parent = node.getparent()
        if parent.tag == qn("w:trPr"):
            _remove(parent.getparent())  # the row was deleted
        elif parent.tag == qn("w:rPr"):
            _join_next_paragraph(parent.getparent().getparent())
        else:
            _remove(node)
    for mark in list(root.iter(qn("w:vanish"))):
        run = mark.getparent().getparent()
        if run is not None and run.tag == qn("w:r") and mark.get(qn("w:val")) not in ("0", "false", "off"):
            _remove(run)


def _remove(node: Any) -> None:
    parent = node.getparent()
    if parent is not None:
        parent.remove(node)


def _join_next_paragraph(paragraph: Any) -> None:
    following = paragraph.getnext() if paragraph is not None else None
    if following is None or paragraph.tag != qn("w:p") or following.tag != qn("w:p"):
        return
    paragraph.extend(child for child in list(following) if child.tag != qn("w:pPr"))
    _remove(following)


def _dissolve(node: Any) -> None:
    """Replace an element by its children."""
    parent = node.getparent()
    if parent is None:
        return
    place = parent.index(node)
    parent[place : place + 1] = list(node)


def _write_symbols(root: Any) -> None:
    """Write symbols, the readings of ruby and formulas as text."""
    for node in list(root.iter(qn("w:sym"))):
        symbol = _SYMBOLS.get(node.get(qn("w:char"), "").upper())
        if symbol is not None:
            node.getparent().replace(node, _text(symbol))
    for node in list(root.iter(qn("w:ruby"))):
        base, reading = (
            "".join(text.text or "" for text in node.iterfind(f"{qn(kind)}//{qn('w:t')}"))
            for kind in ("w:rubyBase", "w:rt")
        )
        node.getparent().replace(node, _text(f"{base}({reading})" if reading else base))
    for kind in ("oMathPara", "oMath"):
        for node in list(root.iter(f"{MATH}{kind}")):
            run = OxmlElement("w:r")
            run.append(_text(formula_text(node)))
            run.tail = node.tail
            node.getparent().replace(node, run)


class _Followers:
    """Puts paragraphs and tables behind a paragraph, in the order in which they are added."""

    def __init__(self) -> None:
        self._last: dict[Any, Any] = {}
        """For each paragraph, the last element that was put behind it."""

    def add(self, node: Any, elements: Iterable[Any]) -> None:
        """Put elements behind the paragraph that contains ``node``."""
        paragraph = next(node.iterancestors(qn("w:p")), None)
        if paragraph is None:
            return
        for element in elements:
            self._last.get(paragraph, paragraph).addnext(element)
            self._last[paragraph] = element

    def add_lines(self, node: Any, lines: Iterable[str]) -> None:
        """Put lines behind the paragraph that contains ``node``, each as a paragraph."""
        paragraphs = []
        for line in lines:
            paragraph, run = OxmlElement("w:p"), OxmlElement("w:r")
            run.append(_text(line))
            paragraph.append(run)
            paragraphs.append(paragraph)
        self.add(node, paragraphs)


def _add_notes(root: Any, relations: Mapping[str, _Relationship], followers: _Followers) -> None:
    """Number the footnotes and endnotes, and put them and the comments behind the paragraphs that refer to them."""
    notes: dict[str, dict[str, list[str]]] = {}
    number = 0
    for reference in list(root.iter(*_NOTES)):
        kind = _NOTES[reference.tag]
        if kind not in notes:
            notes[kind] = _read_notes(kind, relations)
        lines = notes[kind].pop(reference.get(qn("w:id"), ""), None)
        if not lines:
            continue
        if kind == "comments":
            followers.add_lines(reference, [f"Comment: {' '.join(lines)}"])
            continue
        number += 1
        followers.add_lines(reference, [f"[{number}] {' '.join(lines)}"])
        reference.getparent().replace(reference, _text(f"[{number}]"))


def _read_notes(kind: str, relations: Mapping[str, _Relationship]) -> dict[str, list[str]]:
    """Return the lines of the notes of a kind, by their ids."""
    trees = [part_tree(relation) for relation in relations.values() if relation.reltype.endswith(f"/{kind}")]
    return {note.get(qn("w:id"), ""): _texts(note) for tree in trees if tree is not None for note in tree}


def _add_graphics(root: Any, relations: Mapping[str, _Relationship], followers: _Followers) -> int:
    """Put descriptions of pictures and the texts of charts and diagrams behind their paragraphs.

    Return the number of pictures without a description.
    """
    silent_picture_count = 0
    read_ids: set[str] = set()
    for drawing in list(root.iter(qn("w:drawing"), qn("w:pict"))):
        lines = list(_descriptions(drawing))
        for node in drawing.iter(*REFERENCES):
            relation_id = node.get(REFERENCES[node.tag], "")
            if relation_id in relations and relation_id not in read_ids:
                read_ids.add(relation_id)
                tree = part_tree(relations[relation_id])
                if tree is not None:
                    lines += graphic_lines(tree)
        if not lines and next(drawing.iter(*_PICTURES), None) is not None:
            silent_picture_count += 1
        captions = _captions(drawing)
        followers.add_lines(drawing, (line for line in dict.fromkeys(lines) if line not in captions))
    return silent_picture_count


def _descriptions(drawing: Any) -> Iterator[str]:
    """Yield what the author wrote about a picture for those who do not see it."""
    for node in drawing.iter(_DESCRIBED, _VML_SHAPE):
        description = description_line(node.get("descr") or node.get("alt"))
        if description:
            yield description


def _captions(drawing: Any) -> list[str]:
    """Return the texts of the paragraph with a picture and of the next one, which may repeat the description."""
    paragraph = next(drawing.iterancestors(qn("w:p")), None)
    paragraphs = () if paragraph is None else (paragraph, paragraph.getnext())
    return [
        "".join(node.text or "" for node in item.iter(qn("w:t"))) for item in paragraphs if item is not None
    ]


def part_tree(relation: _Relationship) -> Any:
    """Return the tree of another part of the package, without its unseen text; ``None`` if the part is damaged."""
    if relation.is_external:
        return None
    try:
        tree = parse_xml(relation.target_part.blob)
    except etree.XMLSyntaxError as error:
        require_memory(error)
        return None
    _remove_unseen(tree)
    return tree


def _texts(node: Any) -> list[str]:
    """Return the texts of the paragraphs in an element."""
    paragraphs = () if node is None else node.iter(qn("w:p"))
    texts = ("".join(text.text or "" for text in paragraph.iter(qn("w:t"))) for paragraph in paragraphs)
    return [text for text in map(str.strip, texts) if text]


def _text(content: str) -> Any:
    element = OxmlElement("w:t")
    element.text = content
    return element
