"""HTML: the visible text, in sections with headings as boundaries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from portico_server.core.html import HIDDEN_TAGS, declared_charset, parse, walk
from portico_server.features.chunkers.document import Part, PartWriter, SourceDocument, Unreadable
from portico_server.features.readers.html_lists import ListNumbers, RowWriter
from portico_server.features.readers.section import MAX_TITLE_CHARS
from portico_server.features.readers.superscripts import superscript_text
from portico_server.features.readers.text import encoding_of

_BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "br", "caption", "dd", "details", "div", "dl", "dt",
    "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main",
    "ol", "p", "pre", "section", "summary", "table", "title", "ul",
}  # fmt: skip
_APART = {
    "p",
    "pre",
    "table",
    "ul",
    "ol",
    "blockquote",
    "section",
    "article",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
}
_MARKED = {
    *("li", "ol", "ul", "table", "thead", "tbody", "tfoot", "tr", "td", "th", "sup", "a", "rt", "img"),
    *("input", "button"),
}
"""Elements whose texts are written with more than breaks around them."""

_TEXT_INPUTS = {
    *("text", "search", "email", "tel", "url", "number", "date", "time", "month", "week"),
    *("submit", "button", "reset"),
}
"""Types of the fields and buttons of a form whose values a person reads."""

_HIDDEN = (HIDDEN_TAGS - {"button"}) | {"rp", "datalist"}

_NOTE_MARK = re.compile(r"\s*\[?(\w{1,3}|[*†‡§]{1,3})\]?\s*")
"""Text of a link to a note."""

_UNSEEN_STYLE = re.compile(r"(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)

MAX_CELL_CHARS = 1_000
"""Maximum length of a cell that is written in one line with its row; longer cells lay out a page."""

_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}


def read(source: SourceDocument) -> Iterator[Part]:
    """Yield sections, each with the path of headings above it, which begins with the title of the page."""
    writer = PartWriter()
    for heading, text in sections(source):
        yield writer.part(text, heading=heading)


def sections(source: SourceDocument) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the path of headings and the text of each section. Raises `Unreadable`."""
    encoding = encoding_of(source)
    data = source.read()
    if encoding != "utf-8" and not encoding.startswith("utf"):
        encoding = declared_charset(data) or encoding
    root = parse(data, encoding)
    del data
    if root is None:
        raise Unreadable("contains no HTML, or HTML whose elements nest too deeply.")
    found_sections = _Sections()
    title = next((node.text for node in root.iter("title") if node.getparent().tag != "svg"), None)
    if title and title.strip() and title.strip() != source.name.rpartition("/")[2]:
        found_sections.title(" ".join(title.split()))
    walk(root, found_sections)
    yield from found_sections.sections()


def _is_note_link(link: Any) -> bool:
    """Return whether a link is marked as one to a note."""
    return link.get("role") == "doc-noteref" or "noteref" in link.get("epub:type", "")


def _has_note_link(superscript: Any) -> bool:
    """Return whether a superscript contains a link to a place in a page, or is the whole text of one."""
    link = next(superscript.iterchildren("a"), None)
    if link is None and superscript.getprevious() is None and superscript.getnext() is None:
        link = superscript.getparent()
        if link is None or (link.text or "").strip() or (superscript.tail or "").strip():
            return False
    return link is not None and link.tag == "a" and "#" in link.get("href", "")


def _has_caption(image: Any) -> bool:
    """Return whether the caption of a picture is the same text as its description."""
    figure = next(image.iterancestors("figure"), None)
    captions = () if figure is None else figure.iterfind(".//figcaption")
    return any("".join(caption.itertext()).split() == image.get("alt").split() for caption in captions)


class _Sections:
    """Collects the text of a tree under its headings."""

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []
        self._sections: list[tuple[tuple[str, ...], list[str]]] = [((), [])]
        self._lists: list[ListNumbers | None] = []
        self._tables: list[RowWriter] = []
        self._table_count = 0
        self._cells: list[tuple[int, int, int, Any]] = []
        """The open cells: numbers of sections, of pieces and of tables before them, and their elements."""
        self._note_marks: list[tuple[int, int, Any]] = []
        """The open superscripts and links, as some lead to notes: numbers of sections and of pieces before them, and
        their elements.
        """
        self._follows_mark = False

    def title(self, text: str) -> None:
        """Add the title of the page as a heading above all others, unless the first heading is the same text."""
        self._path.append((0, text))
        self._sections.append(((text,), [text + "\n\n"]))

    def hides(self, tag: str, node: Any) -> bool:
        if tag == "math" and (source := node.findtext(".//annotation")):
            self._insert(source)  # in TeX, which is readable as a line, unlike the texts of the elements
            return True
        style = node.get("style")
        if node.get("hidden") is not None or (style is not None and _UNSEEN_STYLE.search(style) is not None):
            return True
        if tag in ("select", "svg"):
            self._insert(" ".join(_chosen_options(node) if tag == "select" else _drawing_texts(node)))
            return True
        return tag in _HIDDEN

    def opens(self, tag: str, node: Any) -> None:
        if tag in _HEADINGS:
            self._enter(_HEADINGS[tag], node)
        self._break(tag)
        if tag not in _MARKED:
            return
        pieces = self._sections[-1][1]
        if tag == "li":
            numbers = self._lists[-1] if self._lists else None
            pieces.append("- " if numbers is None else f"{numbers.next_label(node)} ")
            self._follows_mark = True
        elif tag in ("ol", "ul"):
            self._lists.append(ListNumbers(node) if tag == "ol" else None)
        elif tag == "table":
            self._tables.append(RowWriter())
            self._table_count += 1
        elif tag in ("td", "th"):
            self._cells.append((len(self._sections), len(pieces), self._table_count, node))
        elif tag in ("sup", "a"):
            self._note_marks.append((len(self._sections), len(pieces), node))
        elif tag == "button":
            pieces.append(" ")
        elif tag == "rt":
            pieces.append("(")
        elif tag == "img" and node.get("alt", "").strip() and not _has_caption(node):
            self._insert(node.get("alt"))
        elif tag == "input" and node.get("type", "text").lower() in _TEXT_INPUTS and node.get("value"):
            self._insert(node.get("value"))

    def _enter(self, level: int, node: Any) -> None:
        """Begin a section with the heading ``node``."""
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        # Headings can nest, and each contains the text of those in it.
        title = " ".join("".join(islice(node.itertext(), MAX_TITLE_CHARS)).split())[:MAX_TITLE_CHARS]
        if title:
            if self._path == [(0, title)]:
                self._path.clear()
            self._path.append((level, title))
            self._sections.append((tuple(text for _, text in self._path), []))

    def _insert(self, text: str) -> None:
        """Add a text with spaces around it."""
        words = " ".join(text.split())
        if words:
            pieces = self._sections[-1][1]
            gap = "" if not pieces or pieces[-1][-1:].isspace() else " "
            pieces.append(f"{gap}{words} ")

    def closes(self, tag: str) -> None:
        if tag not in _MARKED:
            self._break(tag)
            return
        pieces = self._sections[-1][1]
        if tag in ("td", "th"):
            self._close_cell()
        elif tag == "tr" and self._tables:
            row = self._tables[-1].end_row()
            pieces.append(f"{row}\n" if row else "")
        elif tag == "table" and self._tables:
            self._tables.pop()
        elif tag in ("ol", "ul") and self._lists:
            self._lists.pop()
        elif tag in ("thead", "tbody", "tfoot") and self._tables:
            self._tables[-1].end_group()
        elif tag in ("sup", "a"):
            self._close_note_mark()
        elif tag == "button":
            pieces.append(" ")
        elif tag == "rt":
            pieces.append(")")
        self._break(tag)

    def _close_cell(self) -> None:
        """Move a short cell into its row, in one line. A long one and one with headings or tables lay out a page: they
        stay as they are, below the cells before them.
        """
        section, start, table_count, node = self._cells.pop()
        pieces = self._sections[section - 1][1]
        has_layout = (section, table_count) != (len(self._sections), self._table_count)
        text = "" if has_layout else "".join(pieces[start:])
        if not self._tables or has_layout or len(text) > MAX_CELL_CHARS:
            cells_before = self._tables[-1].take_cells() if self._tables else ""
            pieces.insert(start, f"{cells_before}\n" if cells_before else "")
            self._sections[-1][1].append("\n")
        else:
            del pieces[start:]
            self._tables[-1].add_cell(" ".join(text.split()), node)

    def _close_note_mark(self) -> None:
        section, start, node = self._note_marks.pop()
        if section != len(self._sections) or (node.tag == "a" and not _is_note_link(node)):
            return
        pieces = self._sections[-1][1]
        text_before = "".join(pieces[max(0, start - 3) : start])
        superscript = "".join(pieces[start:])
        text = superscript_text(text_before, superscript)
        if text == superscript and text_before.strip() and (mark := _NOTE_MARK.fullmatch(superscript)):
            text = f"[{mark[1]}]" if node.tag == "a" or _has_note_link(node) else superscript
        pieces[start:] = [text]

    def _break(self, tag: str) -> None:
        if tag not in _BLOCKS or (self._follows_mark and tag in ("p", "div")):
            return
        self._follows_mark = False
        self._sections[-1][1].append("\n\n" if tag in _APART else "\n")

    def says(self, text: str) -> None:
        self._follows_mark = self._follows_mark and text.isspace()
        if not self._follows_mark:
            self._sections[-1][1].append(text)

    def sections(self) -> Iterator[tuple[tuple[str, ...], str]]:
        for heading, pieces in self._sections:
            text = "".join(pieces).replace("\x00", "\ufffd").replace("\xa0", " ")
            strip = str.rstrip if "    " in text else str.strip
            text = "\n".join(strip(line, " \t").removesuffix(" |") for line in text.split("\n"))
            text = re.sub(r"\n{3,}", "\n\n", text).strip()
            if text:
                yield heading, text


def _chosen_options(select: Any) -> list[str]:
    """Return the texts of the chosen options of a list, of which a browser otherwise shows the first."""
    options = list(select.iter("option"))
    chosen_options = [option for option in options if option.get("selected") is not None]
    return [" ".join(option.itertext()) for option in chosen_options or options[:1]]


def _drawing_texts(drawing: Any) -> list[str]:
    """Return the texts in a drawing."""
    return ["".join(text.itertext()) for text in drawing.iter("text")]
