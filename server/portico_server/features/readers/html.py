"""HTML: the visible text, in sections with headings as boundaries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from portico_server.core.html import HIDDEN_TAGS, declared_charset, parse, walk
from portico_server.features.chunkers.document import Part, PartWriter, SourceDocument, Unreadable
from portico_server.features.readers.section import MAX_TITLE_CHARS
from portico_server.features.readers.text import encoding_of

_BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "br", "caption", "dd", "details", "div", "dl", "dt",
    "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main",
    "ol", "p", "pre", "section", "summary", "table", "tbody", "tfoot", "thead", "title", "tr", "ul",
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
_TEXT_INPUTS = ("text", "search", "email", "tel", "url", "number", "date", "time", "month", "week")
"""Types of the fields of a form whose values a person reads."""

_UNSEEN_STYLE = re.compile(r"(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)

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
    title = root.findtext(".//title")
    if title and title.strip() and title.strip() != source.name.rpartition("/")[2]:
        found_sections.title(" ".join(title.split()))
    walk(root, found_sections)
    yield from found_sections.sections()


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

    def title(self, text: str) -> None:
        """Add the title of the page as a heading above all others, unless the first heading is the same text."""
        self._path.append((0, text))
        self._sections.append(((text,), [text + "\n\n"]))

    def hides(self, tag: str, node: Any) -> bool:
        if tag == "math" and (source := node.findtext(".//annotation")):
            self._insert(source)  # in TeX, which is readable as a line, unlike the texts of the elements
            return True
        if tag in HIDDEN_TAGS or tag == "rp" or node.get("hidden") is not None:
            return True
        style = node.get("style")
        return style is not None and _UNSEEN_STYLE.search(style) is not None

    def opens(self, tag: str, node: Any) -> None:
        if tag in _HEADINGS:
            level = _HEADINGS[tag]
            while self._path and self._path[-1][0] >= level:
                self._path.pop()
            # Headings can nest, and each contains the text of those in it.
            title = " ".join("".join(islice(node.itertext(), MAX_TITLE_CHARS)).split())[:MAX_TITLE_CHARS]
            if title:
                if self._path == [(0, title)]:
                    self._path.clear()
                self._path.append((level, title))
                self._sections.append((tuple(text for _, text in self._path), []))
        self._break(tag)
        if tag == "li":
            self._sections[-1][1].append("- ")
        elif tag == "rt":
            self._sections[-1][1].append("(")
        elif tag == "img" and node.get("alt", "").strip() and not _has_caption(node):
            self._insert(node.get("alt"))
        elif tag == "input" and node.get("type", "text").lower() in _TEXT_INPUTS and node.get("value"):
            self._insert(node.get("value"))

    def _insert(self, text: str) -> None:
        """Add a text with spaces around it."""
        pieces = self._sections[-1][1]
        gap = "" if not pieces or pieces[-1][-1:].isspace() else " "
        pieces.append(f"{gap}{' '.join(text.split())} ")

    def closes(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._sections[-1][1].append(" | ")
        elif tag == "rt":
            self._sections[-1][1].append(")")
        self._break(tag)

    def _break(self, tag: str) -> None:
        if tag in _BLOCKS:
            self._sections[-1][1].append("\n\n" if tag in _APART else "\n")

    def says(self, text: str) -> None:
        self._sections[-1][1].append(text)

    def sections(self) -> Iterator[tuple[tuple[str, ...], str]]:
        for heading, pieces in self._sections:
            text = "".join(pieces).replace("\x00", "\ufffd").replace("\xa0", " ")
            strip = str.rstrip if "    " in text else str.strip
            text = "\n".join(strip(line, " \t").removesuffix(" |") for line in text.split("\n"))
            text = re.sub(r"\n{3,}", "\n\n", text).strip()
            if text:
                yield heading, text
