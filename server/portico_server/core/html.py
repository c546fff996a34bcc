"""HTML as a reader sees it: its bytes as a tree, and a walk through the tree that leaves out what nobody sees.

Imports lxml, which is not for the start of the daemon: import this module where HTML is read.
"""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

from lxml import etree
from lxml.html import HTMLParser, document_fromstring

from portico_server.core.words import decoded

HIDDEN_TAGS: Final = frozenset(
    {"script", "style", "noscript", "template", "svg", "iframe", "object", "head", "nav", "button", "select"}
)
"""Elements whose text is not a part of what a page says."""

_CHARSET: Final = re.compile(
    rb"<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*[\"']?([A-Za-z0-9_-]+)", re.I
)


class HtmlReader(Protocol):
    """Receives what the walk passes, in order."""

    def hides(self, tag: str, node: Any) -> bool:
        """Whether an element, with all in it, is left out."""

    def opens(self, tag: str, node: Any) -> None: ...

    def closes(self, tag: str) -> None: ...

    def says(self, text: str) -> None:
        """Text; white space is one blank, save within ``pre``."""


def declared_charset(data: bytes) -> str | None:
    """The encoding that a document says it has."""
    match = _CHARSET.search(data[:4096])
    return match.group(1).decode("ascii") if match else None


def local_name(tag: str) -> str:
    """The name of an element or attribute without its namespace. lxml's own refuses names that its parser has taken."""
    return tag.rpartition("}")[2]


def parse(data: bytes, encoding: str) -> Any | None:
    """The root element, or ``None`` for what holds no HTML. What the encoding does not explain is replaced."""
    text = decoded(data, encoding)
    del data
    try:
        # As UTF-8 bytes: lxml refuses a string that declares another encoding.
        return document_fromstring(
            text.encode(), parser=HTMLParser(encoding="utf-8", no_network=True, remove_comments=True)
        )
    except (etree.ParserError, etree.XMLSyntaxError):
        return None


def walk(root: Any, reader: HtmlReader) -> None:
    """Lead ``reader`` through a tree. Without recursion: pages nest deeper than Python may call."""
    verbatim = 0
    hidden: Any = None

    def say(text: str | None) -> None:
        if text:
            reader.says(text if verbatim else re.sub(r"\s+", " ", text))

    for event, node in etree.iterwalk(root, events=("start", "end")):
        tag = node.tag if isinstance(node.tag, str) else ""
        if event == "start" and hidden is None:
            if not tag or reader.hides(tag, node):
                hidden = node
                continue
            verbatim += tag == "pre"
            reader.opens(tag, node)
            say(node.text)
        elif event == "end":
            if hidden is None:
                verbatim -= tag == "pre"
                reader.closes(tag)
            elif hidden is node:
                hidden = None
            else:
                continue
            say(node.tail)
