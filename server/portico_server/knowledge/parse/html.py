"""HTML: the text a reader sees, in sections by heading."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lxml import etree
from lxml.html import HTMLParser, document_fromstring

from portico_server.knowledge.parse.text import encoding_of
from portico_server.knowledge.part import Part, Source, Unreadable, Writer

_UNSEEN = {
    "script",
    "style",
    "noscript",
    "template",
    "svg",
    "iframe",
    "object",
    "head",
    "nav",
    "button",
    "select",
}
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
_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_CHARSET = re.compile(rb"<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*[\"']?([A-Za-z0-9_-]+)", re.I)


def read(source: Source) -> Iterator[Part]:
    """Sections with the path of headings above them; the title comes first."""
    writer = Writer()
    for heading, text in sections(source):
        yield writer.part(text, heading=heading)


def sections(source: Source) -> Iterator[tuple[tuple[str, ...], str]]:
    """The path of headings and the text of each section. Raises `Unreadable`."""
    encoding = encoding_of(source)
    data = source.read()
    if encoding != "utf-8" and not encoding.startswith("utf") and (declared := _CHARSET.search(data[:4096])):
        encoding = declared.group(1).decode("ascii")
    try:
        text = data.decode("gb18030" if encoding.lower() in ("gb2312", "gbk") else encoding, "replace")
    except LookupError:
        text = data.decode("utf-8", "replace")
    del data
    try:
        # As UTF-8 bytes: lxml refuses a string that declares another encoding.
        root = document_fromstring(
            text.encode(), parser=HTMLParser(encoding="utf-8", no_network=True, remove_comments=True)
        )
    except (etree.ParserError, etree.XMLSyntaxError) as error:
        raise Unreadable("contains no HTML that could be read.") from error
    walk = _Walk()
    title = root.findtext(".//title")
    if title and title.strip():
        walk.title(" ".join(title.split()))
    walk.element(root)
    yield from walk.sections()


class _Walk:
    """Collects the text of a tree. Without recursion: pages nest deeper than Python may call."""

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []
        self._sections: list[tuple[tuple[str, ...], list[str]]] = [((), [])]

    def title(self, text: str) -> None:
        self._sections[-1][1].append(text + "\n\n")

    def element(self, root: Any) -> None:
        verbatim = 0
        hidden: Any = None
        for event, node in etree.iterwalk(root, events=("start", "end")):
            tag = node.tag if isinstance(node.tag, str) else ""
            if event == "start" and hidden is None:
                if tag in _UNSEEN or not tag:
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
        if tag in _HEADINGS:
            level = _HEADINGS[tag]
            while self._path and self._path[-1][0] >= level:
                self._path.pop()
            title = " ".join("".join(node.itertext()).split())
            if title:
                self._path.append((level, title))
                self._sections.append((tuple(text for _, text in self._path), []))
        self._break(tag)
        if tag == "li":
            self._sections[-1][1].append("- ")

    def _close(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._sections[-1][1].append(" | ")
        self._break(tag)

    def _break(self, tag: str) -> None:
        if tag in _BLOCKS:
            self._sections[-1][1].append("\n\n" if tag in _APART else "\n")

    def _text(self, text: str | None, verbatim: int) -> None:
        if text:
            self._sections[-1][1].append(text if verbatim else re.sub(r"\s+", " ", text))

    def sections(self) -> Iterator[tuple[tuple[str, ...], str]]:
        for heading, pieces in self._sections:
            text = "".join(pieces).replace("\x00", "\ufffd").replace("\xa0", " ")
            text = (
                re.sub(r"[ \t]*\n[ \t]*", "\n", text)
                if "    " not in text
                else re.sub(r"[ \t]+\n", "\n", text)
            )
            text = re.sub(r" \|(?=\n|$)", "", text)
            text = re.sub(r"\n{3,}", "\n\n", text).strip()
            if text:
                yield heading, text
