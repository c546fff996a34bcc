"""HTML as a reader sees it: bytes are parsed into a tree, and a walk through the tree skips hidden content.

Imports lxml, which is too slow for the start of the daemon: import this module only where HTML is read.
"""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

from lxml import etree
from lxml.html import HTMLParser, document_fromstring

from portico_server.core.words import decode_text

HIDDEN_TAGS: Final = frozenset(
    {"script", "style", "noscript", "template", "svg", "iframe", "object", "head", "nav", "button", "select"}
)
"""Elements whose text is not part of a page's content."""

_CHARSET: Final = re.compile(
    rb"<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*[\"']?([A-Za-z0-9_-]+)", re.I
)

_SPACES: Final = re.compile(r"\s+")


class HtmlReader(Protocol):
    """Receives the elements and texts of a walk, in order."""

    def hides(self, tag: str, node: Any) -> bool:
        """Return whether an element and its content are skipped."""

    def opens(self, tag: str, node: Any) -> None: ...

    def closes(self, tag: str) -> None: ...

    def says(self, text: str) -> None:
        """Receive a text; white space is collapsed to one space, except within ``pre``."""


def declared_charset(data: bytes) -> str | None:
    """Return the encoding that a document declares."""
    match = _CHARSET.search(data[:4096])
    return match.group(1).decode("ascii") if match else None


def local_name(tag: str) -> str:
    """Return the name of an element or attribute without its namespace. lxml's own function rejects some names that
    its parser has accepted.
    """
    return tag.rpartition("}")[2]


def parse(data: bytes, encoding: str) -> Any | None:
    """Return the root element, or ``None`` if the bytes contain no HTML, or elements that nest more than 2,048 levels
    deep. Bytes that are invalid in the encoding are replaced. Raises `MemoryError`.
    """
    text = decode_text(data, encoding)
    del data
    # Without huge_tree, lxml silently stops at a text of 10 MB and at 256 levels.
    parser = HTMLParser(encoding="utf-8", no_network=True, remove_comments=True, huge_tree=True)
    try:
        # Pass UTF-8 bytes, because lxml rejects a string that declares another encoding.
        root = document_fromstring(text.encode(), parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError) as error:
        require_memory(error)
        return None
    return None if parser.error_log.filter_types(etree.ErrorTypes.ERR_RESOURCE_LIMIT) else root


def require_memory(error: Exception) -> None:
    """Raise `MemoryError` if lxml stopped with ``error`` because memory ran out."""
    if isinstance(error, etree.XMLSyntaxError) and error.code == etree.ErrorTypes.ERR_NO_MEMORY:
        raise MemoryError from error


def walk(root: Any, reader: HtmlReader) -> None:
    """Walk a tree and pass its content to ``reader``. The walk is not recursive, because pages nest more deeply than
    Python's recursion limit.
    """
    verbatim = 0
    hidden: Any = None

    def say(text: str | None) -> None:
        if text:
            reader.says(text if verbatim else _SPACES.sub(" ", text))

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
