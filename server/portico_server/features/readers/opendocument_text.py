"""The lines that a person sees in an OpenDocument file: of paragraphs, lists, tables, notes and graphics.

Hidden and deleted text is left out. Notes, comments, text boxes and the texts of graphics follow their paragraph.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, Final

from portico_server.core.dataclass import dataclass
from portico_server.core.words import whole_number
from portico_server.features.readers.container import optional_tree, tree
from portico_server.features.readers.formulas import MATHML, mathml_text
from portico_server.features.readers.list_numbers import ODF_NUMBERS
from portico_server.features.readers.office_graphics import description_line
from portico_server.features.readers.section import MAX_TITLE_CHARS

DOCUMENT_KIND: Final = "OpenDocument file"

_NAMES: Final = "{urn:oasis:names:tc:opendocument:xmlns:"
TEXT: Final = f"{_NAMES}text:1.0}}"
TABLE: Final = f"{_NAMES}table:1.0}}"
OFFICE: Final = f"{_NAMES}office:1.0}}"
DRAW: Final = f"{_NAMES}drawing:1.0}}"
STYLE: Final = f"{_NAMES}style:1.0}}"
SHOW: Final = f"{_NAMES}presentation:1.0}}"
_SVG: Final = f"{_NAMES}svg-compatible:1.0}}"
_HREF: Final = "{http://www.w3.org/1999/xlink}href"

_SKIPPED_ELEMENTS: Final = {
    f"{TEXT}tracked-changes",
    f"{TEXT}note-citation",
    f"{TEXT}hidden-text",
    f"{TEXT}hidden-paragraph",
    f"{TEXT}ruby-text",
    f"{OFFICE}forms",
    f"{SHOW}notes",
    f"{_SVG}title",
    f"{_SVG}desc",
    "{http://purl.org/dc/elements/1.1/}creator",
    "{http://purl.org/dc/elements/1.1/}date",
}
"""Elements whose content is not part of the text, or is read with the element around them."""

_FAMILIES: Final = {f"{TEXT}span": "text", f"{TEXT}p": "paragraph", f"{TEXT}h": "paragraph"}
"""Elements whose text their style may hide, and the family of this style."""

_ROW_GROUPS: Final = {f"{TABLE}table-header-rows", f"{TABLE}table-rows", f"{TABLE}table-row-group"}

MAX_SPACES: Final = 100
"""Maximum number of consecutive spaces. The file states only how many there are, so the number could be any."""

MAX_COLUMNS: Final = 1_024
"""Maximum number of columns over which a cell of a table may extend."""

MAX_OBJECTS: Final = 1_000
"""Maximum number of embedded formulas and charts that are read."""

Line = tuple[int, str]
"""A line and its heading level, or 0 if the line is not a heading."""


@dataclass(frozen=True, slots=True)
class _Follower:
    """An element whose lines follow its paragraph: a drawing with the object in it, or a note with its label."""

    element: Any
    embedded: Any = None
    label: str = ""

    @property
    def formula(self) -> str:
        """The text of the drawing if it is a formula, otherwise empty."""
        is_formula = self.embedded is not None and self.embedded.tag == f"{MATHML}math"
        return mathml_text(self.embedded).strip() if is_formula else ""


class ContentReader:
    """Reads elements of one file. It counts footnotes and items of numbered lists from the beginning of the file."""

    def __init__(self, archive: zipfile.ZipFile, content: Any) -> None:
        self._archive = archive
        trees = [content]
        if "styles.xml" in archive.NameToInfo:
            trees.append(tree(archive, "styles.xml", DOCUMENT_KIND))
        self._styles = trees[-1]
        self._hidden_styles = _hidden_styles(trees)
        self._list_levels = _list_levels(trees)
        self._last_numbers: dict[tuple[str, int], int] = {}
        self._note_count = 0
        self._object_count = 0

    def lines(self, node: Any) -> Iterator[Line]:
        """Yield the lines of the elements in ``node``."""
        for item in node.iterchildren():
            yield from self.lines_of(item)

    def page_lines(self) -> list[str]:
        """Return the lines of the headers and footers of pages."""
        kinds = [
            f"{STYLE}{kind}{pages}" for kind in ("header", "footer") for pages in ("", "-left", "-first")
        ]
        nodes = (node for node in self._styles.iter(*kinds) if node.get(f"{STYLE}display") != "false")
        return [line for node in nodes for _, line in self.lines(node) if line]

    def lines_of(self, item: Any) -> Iterator[Line]:
        """Yield the lines of an element."""
        if not isinstance(item.tag, str) or item.tag in _SKIPPED_ELEMENTS or self._is_hidden(item):
            return
        if item.tag in (f"{TEXT}h", f"{TEXT}p"):
            level = 0
            if item.tag == f"{TEXT}h":
                level = whole_number(item.get(f"{TEXT}outline-level", "1"), 2) or 1
            text, followers = self._paragraph(item)
            yield level, text
            yield from followers
        elif item.tag == f"{TABLE}table":
            yield from ((0, " | ".join(cells)) for cells in self._rows(item) if any(cells))
        elif item.tag == f"{TEXT}list":
            yield from self._list(item, "", 1)
        elif item.tag.startswith(DRAW):
            yield from self._drawing(_Follower(item, self._object(item)), "")
        else:
            yield from self.lines(item)

    def _is_hidden(self, item: Any) -> bool:
        if item.tag == f"{TEXT}section":
            is_hidden_now: bool = item.get(f"{TEXT}is-hidden") == "true"
            return is_hidden_now or item.get(f"{TEXT}display") == "none"
        family = _FAMILIES.get(item.tag)
        return family is not None and (family, item.get(f"{TEXT}style-name")) in self._hidden_styles

    def _list(self, node: Any, style: str, level: int) -> Iterator[Line]:
        style = node.get(f"{TEXT}style-name") or style
        key = (style, level)
        label = self._list_levels.get(key)
        number = 0
        if label is not None and node.get(f"{TEXT}continue-numbering") == "true":
            number = self._last_numbers.get(key, 0)
        elif label is not None:
            number = label.start - 1
        for item in node.iterchildren(f"{TEXT}list-item", f"{TEXT}list-header"):
            mark = "- "
            if item.tag == f"{TEXT}list-header":
                mark = ""
            elif label is not None:
                start = whole_number(item.get(f"{TEXT}start-value", ""))
                number = number + 1 if start is None else start
                mark = f"{label.write(number)} "
            for block in item.iterchildren():
                if block.tag == f"{TEXT}list":
                    yield from self._list(block, style, level + 1)
                    continue
                for heading_level, line in self.lines_of(block):
                    yield heading_level, f"{mark}{line}" if line and not heading_level else line
                    mark = mark if not line else ""
        self._last_numbers[key] = number

    def _rows(self, table: Any) -> Iterator[list[str]]:
        """Yield the texts of each row. A cell that covers the cells below repeats the beginning of its text there."""
        above: dict[int, tuple[int, str]] = {}
        for row in _row_elements(table):
            texts: list[str] = []
            column = 0
            for cell in row.iterchildren(f"{TABLE}table-cell", f"{TABLE}covered-table-cell"):
                if cell.tag == f"{TABLE}table-cell":
                    text = " ".join(line for _, line in self.lines(cell) if line)
                    texts.append(text)
                    row_count = whole_number(cell.get(f"{TABLE}number-rows-spanned", "1")) or 1
                    above[column] = (row_count - 1, text[:MAX_TITLE_CHARS])
                elif above.get(column, (0, ""))[0] > 0:
                    row_count, text = above[column]
                    texts.append(text)
                    above[column] = (row_count - 1, text)
                repeats = whole_number(cell.get(f"{TABLE}number-columns-repeated", "1")) or 1
                column = min(column + repeats, MAX_COLUMNS)
            yield texts

    def _paragraph(self, node: Any) -> tuple[str, list[Line]]:
        """Return the text of a paragraph, and the lines that follow it."""
        followers: list[_Follower] = []
        text = "".join(self._pieces(node, followers)).strip()
        lines: list[Line] = []
        for follower in followers:
            lines += self._note(follower) if follower.label else self._drawing(follower, text)
        return text, lines

    def _pieces(self, node: Any, followers: list[_Follower]) -> Iterator[str]:
        yield _flat(node.text)
        for item in node.iterchildren():
            if isinstance(item.tag, str):
                yield from self._piece(item, followers)
            yield _flat(item.tail)

    def _piece(self, item: Any, followers: list[_Follower]) -> Iterator[str]:
        if item.tag == f"{TEXT}s":
            yield " " * min(whole_number(item.get(f"{TEXT}c", "1")) or 1, MAX_SPACES)
        elif item.tag in (f"{TEXT}tab", f"{TEXT}line-break"):
            yield "\t" if item.tag.endswith("tab") else "\n"
        elif item.tag == f"{TEXT}note":
            self._note_count += 1
            followers.append(_Follower(item, label=f"[{self._note_count}]"))
            yield followers[-1].label
        elif item.tag == f"{OFFICE}annotation":
            followers.append(_Follower(item, label="Comment:"))
        elif item.tag.startswith(DRAW) and item.tag != f"{DRAW}a":
            follower = _Follower(item, self._object(item))
            if follower.formula:
                yield follower.formula
            else:
                followers.append(follower)
        elif item.tag not in _SKIPPED_ELEMENTS and not self._is_hidden(item):
            yield from self._pieces(item, followers)
            if item.tag == f"{TEXT}ruby":
                reading = "".join(item.itertext(f"{TEXT}ruby-text")).strip()
                yield f"({reading})" if reading else ""

    def _note(self, note: _Follower) -> Iterator[Line]:
        """Yield the line of a note or a comment."""
        text = " ".join(line for _, line in self.lines(note.element) if line)
        if text:
            yield 0, f"{note.label} {text}"

    def _drawing(self, drawing: _Follower, paragraph: str) -> Iterator[Line]:
        """Yield the lines in a frame or a shape, and its description unless these lines or ``paragraph`` repeat it."""
        element = drawing.element
        lines = [(0, drawing.formula)] if drawing.formula else list(self.lines(element))
        if drawing.embedded is not None and not drawing.formula:
            lines += self.lines(drawing.embedded)
        yield from lines
        words = description_line(element.findtext(f"{_SVG}desc") or element.findtext(f"{_SVG}title"))
        if words and words not in (paragraph, *(line for _, line in lines)):
            yield 0, words

    def _object(self, frame: Any) -> Any:
        """Return the tree of a formula or a chart in a frame, or ``None``. It is in the element or a member."""
        reference = frame.find(f"{DRAW}object")
        if reference is None:
            return None
        for child in reference.iterchildren(f"{MATHML}math", f"{OFFICE}document"):
            return child
        name = reference.get(_HREF, "").removeprefix("./").strip("/")
        member = f"{name}/content.xml"
        if not name or member not in self._archive.NameToInfo or self._object_count == MAX_OBJECTS:
            return None
        self._object_count += 1
        return optional_tree(self._archive, member, DOCUMENT_KIND)


class _ListLevel:
    """A level of a list style: its first number, and the text of a number such as ``4.`` or ``(d)``."""

    def __init__(self, element: Any, write: Callable[[int], str]) -> None:
        self.start = whole_number(element.get(f"{TEXT}start-value", "")) or 1
        self._write = write
        self._prefix = element.get(f"{STYLE}num-prefix", "")
        self._suffix = element.get(f"{STYLE}num-suffix", "")

    def write(self, number: int) -> str:
        return f"{self._prefix}{self._write(number)}{self._suffix}"


def _list_levels(trees: list[Any]) -> dict[tuple[str, int], _ListLevel]:
    """Return the numbered levels of list styles, by the style's name and the level."""
    levels = {}
    for root in reversed(trees):
        for style in root.iter(f"{TEXT}list-style"):
            for element in style.iterchildren(f"{TEXT}list-level-style-number"):
                write = ODF_NUMBERS.get(element.get(f"{STYLE}num-format", ""))
                level = whole_number(element.get(f"{TEXT}level", "1"))
                if write is not None and level is not None:
                    levels[style.get(f"{STYLE}name", ""), level] = _ListLevel(element, write)
    return levels


def _hidden_styles(trees: list[Any]) -> set[tuple[str, str]]:
    """Return the families and names of the styles whose text is not displayed."""
    return {
        (style.get(f"{STYLE}family", ""), style.get(f"{STYLE}name", ""))
        for root in trees
        for properties in root.iter(f"{STYLE}text-properties")
        if properties.get(f"{TEXT}display") == "none"
        and (style := properties.getparent()).tag == f"{STYLE}style"
    }


def _row_elements(table: Any) -> Iterator[Any]:
    """Yield the rows of a table, without those of the tables in its cells."""
    for item in table.iterchildren():
        if item.tag == f"{TABLE}table-row":
            yield item
        elif item.tag in _ROW_GROUPS:
            yield from _row_elements(item)


def _flat(text: str | None) -> str:
    """Return a text with each run of white space replaced by a single space."""
    return re.sub(r"[ \t\r\n]+", " ", text or "").replace("\x00", "")
