"""Jupyter notebooks: one part per cell, with Markdown unchanged, code in a fence, and the output below the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from portico_server.features.chunkers.document import Part, PartWriter, SourceDocument, Unreadable
from portico_server.features.readers.section import without_closing_marks

MAX_OUTPUT_CHARS = 4_000
"""Maximum number of characters of a cell's output that are kept."""

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
    """Return the text output of a cell, without images and HTML."""
    outputs = []
    for output in cell.get("outputs") or []:
        if not isinstance(output, dict):
            continue
        if output.get("output_type") == "error":
            outputs.append(f"{output.get('ename', 'Error')}: {output.get('evalue', '')}")
            continue
        data = output.get("data")
        text = data.get("text/plain", "") if isinstance(data, dict) else output.get("text", "")
        outputs.append(_join(text))
    return "\n".join(text.strip("\n") for text in outputs if text.strip())[:MAX_OUTPUT_CHARS]
