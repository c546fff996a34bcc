"""A web page as text for a model: headings, paragraphs, lists, tables and links, in Markdown's signs.

Imports lxml: import this module when the first page is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urljoin

from lxml import etree
from lxml.html import HTMLParser, document_fromstring

_UNSEEN: Final = {
    "script", "style", "noscript", "template", "svg", "iframe", "object", "head", "nav", "button", "select",
    "textarea", "dialog",
}  # fmt: skip
_APART: Final = {
    "p", "pre", "table", "ul", "ol", "dl", "blockquote", "section", "article", "aside", "main", "header", "footer",
    "figure", "form", "div", "h1", "h2", "h3", "h4", "h5", "h6",
}  # fmt: skip
_LINES: Final = {"br", "hr", "li", "tr", "dt", "dd", "caption", "figcaption", "summary"}
_HEADINGS: Final = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_CHARSET: Final = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?([A-Za-z0-9_-]+)", re.I)


@dataclass(frozen=True, slots=True)
class Page:
    """The title of a page and its text."""

    title: str
    text: str


def read(data: bytes, charset: str | None, url: str) -> Page:
    """The readable text of an HTML document; links are absolute. A document without any text has none."""
    declared = _CHARSET.search(data[:4096])
    encoding = charset or (declared.group(1).decode("ascii") if declared else "utf-8")
    try:
        text = data.decode("gb18030" if encoding.lower() in ("gb2312", "gbk") else encoding, "replace")
    except LookupError:
        text = data.decode("utf-8", "replace")
    try:
        # As UTF-8 bytes: lxml refuses a string that declares another encoding.
        root = document_fromstring(
            text.encode(), parser=HTMLParser(encoding="utf-8", no_network=True, remove_comments=True)
        )
    except (etree.ParserError, etree.XMLSyntaxError):
        return Page("", "")
    title = " ".join((root.findtext(".//title") or "").split())
    base = root.find(".//base")
    walk = _Walk(urljoin(url, base.get("href", "")) if base is not None else url)
    walk.element(root)
    return Page(title, walk.text())


class _Walk:
    """Collects the text of a tree. Without recursion: pages nest deeper than Python may call."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._pieces: list[str] = []
        self._links: list[tuple[int, str]] = []
        """Open links: where their text begins, and where they lead."""

    def element(self, root: Any) -> None:
        verbatim = 0
        hidden: Any = None
        for event, node in etree.iterwalk(root, events=("start", "end")):
            tag = node.tag if isinstance(node.tag, str) else ""
            if event == "start" and hidden is None:
                if tag in _UNSEEN or not tag or "hidden" in node.attrib:
                    hidden = node
                    continue
                verbatim += tag == "pre"
                self._open(tag, node)
                self._text(node.text, verbatim)
            elif event == "end":
                if hidden is None:
                    verbatim -= tag == "pre"
                    self._close(tag)
                elif hidden is node:
                    hidden = None
                else:
                    continue
                self._text(node.tail, verbatim)

    def _open(self, tag: str, node: Any) -> None:
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

    def _close(self, tag: str) -> None:
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

    def _text(self, text: str | None, verbatim: int) -> None:
        if text:
            self._pieces.append(text if verbatim else re.sub(r"\s+", " ", text))

    def text(self) -> str:
        text = "".join(self._pieces).replace("\x00", "\ufffd").replace("\xa0", " ")
        text = re.sub(r"[ \t]+\n", "\n", text)
        text = re.sub(r"\n (?=\S)", "\n", text)
        text = re.sub(r" \|(?=\n|$)", "", text)
        return re.sub(r"\n{3,}", "\n\n", text).strip()
