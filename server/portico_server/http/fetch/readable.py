"""Converts a web page to text for a model: headings, paragraphs, lists, tables and links, in Markdown.

Imports lxml, so import this module when the first page is read.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urljoin

from portico_server.core.dataclass import dataclass
from portico_server.core.html import HIDDEN_TAGS, declared_charset, parse, walk

_UNSEEN: Final = HIDDEN_TAGS | {"textarea", "dialog"}
_APART: Final = {
    "p", "pre", "table", "ul", "ol", "dl", "blockquote", "section", "article", "aside", "main", "header", "footer",
    "figure", "form", "div", "h1", "h2", "h3", "h4", "h5", "h6",
}  # fmt: skip
_LINES: Final = {"br", "hr", "li", "tr", "dt", "dd", "caption", "figcaption", "summary"}
_HEADINGS: Final = {f"h{level}": "#" * level + " " for level in range(1, 7)}


@dataclass(frozen=True, slots=True)
class ReadablePage:
    """The title of a page and its text."""

    title: str
    text: str


def read(data: bytes, charset: str | None, url: str) -> ReadablePage:
    """Return the readable text of an HTML document, with absolute links; empty for a document without text."""
    root = parse(data, charset or declared_charset(data) or "utf-8")
    if root is None:
        return ReadablePage("", "")
    title = " ".join((root.findtext(".//title") or "").split())
    base = root.find(".//base")
    readable_text = _ReadableText(urljoin(url, base.get("href", "")) if base is not None else url)
    walk(root, readable_text)
    return ReadablePage(title, readable_text.text())


class _ReadableText:
    """Collects the text of a tree of elements, with its links."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._pieces: list[str] = []
        self._links: list[tuple[int, str]] = []
        """Links that are still open: the position at which each link's text begins, and the link's target."""

    def hides(self, tag: str, node: Any) -> bool:
        return tag in _UNSEEN or "hidden" in node.attrib

    def opens(self, tag: str, node: Any) -> None:
        self._break(tag)
        if tag == "a":
            href = (node.get("href") or "").strip()
            follows = href and not href.startswith(("#", "javascript:", "data:"))
            self._links.append((len(self._pieces), self._join(href) if follows else ""))
        elif tag == "li":
            self._pieces.append("- ")
        elif tag == "img" and node.get("alt"):
            self._pieces.append(f"[image: {' '.join(node.get('alt').split())}]")
        self._pieces.append(_HEADINGS.get(tag, ""))

    def closes(self, tag: str) -> None:
        if tag == "a" and self._links:
            begin, target = self._links.pop()
            label = " ".join("".join(self._pieces[begin:]).split())
            if target and label:
                self._pieces[begin:] = [f"[{label}]({target})"]
        if tag in ("td", "th"):
            self._pieces.append(" | ")
        self._break(tag)

    def _join(self, href: str) -> str:
        try:
            return urljoin(self._base, href)
        except ValueError:
            return ""

    def _break(self, tag: str) -> None:
        if tag in _APART:
            self._pieces.append("\n\n")
        elif tag == "br" or (tag in _LINES and not self._at_line_start()):
            self._pieces.append("\n")

    def _at_line_start(self) -> bool:
        return next((piece[-1] == "\n" for piece in reversed(self._pieces) if piece.strip(" ")), True)

    def says(self, text: str) -> None:
        self._pieces.append(text)

    def text(self) -> str:
        text = "".join(self._pieces).replace("\x00", "\ufffd").replace("\xa0", " ")
        text = re.sub(r"[ \t]+\n", "\n", text)
        text = re.sub(r"\n (?=\S)", "\n", text)
        text = re.sub(r" \|(?=\n|$)", "", text)
        return re.sub(r"\n{3,}", "\n\n", text).strip()
