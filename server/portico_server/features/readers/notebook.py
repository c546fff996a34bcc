"""Jupyter notebooks: one part per cell, with Markdown unchanged, code in a fence, and the output below the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from portico_server.features.chunkers.document import Part, PartWriter, SourceDocument, Unreadable
from portico_server.features.readers import html
from portico_server.features.readers.markdown_lines import ShownLines
from portico_server.features.readers.section import without_closing_marks

MAX_OUTPUT_CHARS = 4_000
"""Maximum number of characters of a cell's output that are kept."""

MAX_HTML_CHARS = 1_000_000
"""Maximum number of characters of an output in HTML that are read."""

_ANSI = re.compile(r"\x1b\[[0-9;?]{0,40}[a-zA-Z]")
_PLACEHOLDER = re.compile(r"<[^<>\n]{1,200}>")
_HEADING = re.compile(r"^ {0,3}(#{1,6})[ \t]+(\S.*)$", re.M)


def read(source: SourceDocument) -> Iterator[Part]:
    """Yield the cells of a notebook, each with its number, from 1, and the path of headings above it."""
    try:
        book = json.loads(source.read())
        cells = book["cells"] if "cells" in book else [c for s in book["worksheets"] for c in s["cells"]]
        language = str(book.get("metadata", {}).get("kernelspec", {}).get("language", ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Unreadable("is not a complete notebook: it is damaged or truncated.") from error
    writer = PartWriter()
    path: list[tuple[int, str]] = []
    has_parts = False
    for number, cell in enumerate(cells if isinstance(cells, list) else [], start=1):
        if not isinstance(cell, dict):
            continue
        text = _join(cell.get("source", cell.get("input", ""))).replace("\x00", "\ufffd").strip("\n")
        kind = cell.get("cell_type")
        if kind == "markdown":
            text = "".join(ShownLines(text.splitlines(keepends=True)))
            for match in _HEADING.finditer(text):
                level = len(match.group(1))
                path = [item for item in path if item[0] < level]
                path.append((level, without_closing_marks(match.group(2), "#").strip("*_` ")))
        elif kind == "code" and text.strip():
            text = f"```{language}\n{text}\n```"
            if output_text := _printed(cell):
                text += f"\n\n```\n{output_text}\n```"
        if text.strip():
            has_parts = True
            yield writer.part(text, cell=str(number), heading=tuple(title for _level, title in path))
    if not has_parts:
        raise Unreadable("has only empty cells.")


def _join(value: Any) -> str:
    return "".join(map(str, value)) if isinstance(value, list) else str(value)


def _printed(cell: dict[str, Any]) -> str:
    """Return the output of a cell as text, without pictures."""
    outputs = [item for item in cell.get("outputs") or [] if isinstance(item, dict)]
    texts = (_ANSI.sub("", _output_text(item)).strip("\n") for item in outputs)
    return "\n".join(text for text in texts if text.strip())[:MAX_OUTPUT_CHARS]


def _output_text(output: dict[str, Any]) -> str:
    """Return an output in the richest of its types that can be shown as text."""
    if output.get("output_type") in ("error", "pyerr"):
        return f"{output.get('ename', 'Error')}: {output.get('evalue', '')}"
    data = output.get("data")
    if not isinstance(data, dict):
        # Version 3 of the format has the types as fields of the output.
        data = {f"text/{kind}": output[kind] for kind in ("html", "markdown", "latex") if kind in output}
        data["text/plain"] = output.get("text", "")
    plain = _join(data.get("text/plain", ""))
    if "text/html" in data and (text := _text_of_html(_join(data["text/html"]))):
        return text
    for kind in ("text/markdown", "text/latex"):
        if kind in data:
            return _join(data[kind])
    is_placeholder = any(kind.startswith("image/") for kind in data) and _PLACEHOLDER.fullmatch(plain.strip())
    return "" if is_placeholder else _without_overwritten(plain)


def _text_of_html(text: str) -> str:
    try:
        return "\n\n".join(
            section
            for _, section in html.sections(SourceDocument("output.html", text[:MAX_HTML_CHARS].encode()))
        )
    except Unreadable:
        return ""


def _without_overwritten(text: str) -> str:
    """Return a printed text without what a carriage return overwrites, such as earlier states of a progress bar."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)
