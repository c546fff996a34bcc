"""XML: records as lines ``name: text``, with the names of the enclosing elements as headings. Entities are not
resolved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

from lxml import etree

from portico_server.core.html import local_name
from portico_server.features.chunkers.document import Part, PartWriter, SourceDocument
from portico_server.features.readers import text
from portico_server.features.readers.section import MAX_TITLE_CHARS

PART_CHARS = 1_000
"""Approximate length of a part in characters."""


def read(source: SourceDocument) -> Iterator[Part]:
    """Yield groups of elements, each with the line of its first element. Malformed XML is read as plain text."""
    try:
        with source.open() as file:
            parser = etree.XMLParser(
                resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True
            )
            root = etree.parse(file, parser).getroot()
    except etree.XMLSyntaxError:
        yield from text.read(source)
        return
    writer = PartWriter()
    has_parts = False
    for path, steps, line, lines in _groups(root):
        has_parts = True
        yield writer.part("\n".join(lines), line=line, heading=path, symbol=f"/{'/'.join(steps)}")
    if not has_parts:
        yield from text.read(source)


def _groups(root: Any) -> Iterator[tuple[tuple[str, ...], tuple[str, ...], int, list[str]]]:
    """Yield groups of elements whose parents have the same path of names: (names, steps, line of the first element,
    texts).

    Steps are names with numbers, such as ``order[2]``. If the parents of the elements differ, only the steps that they
    share are returned.
    """
    path: list[str] = []
    steps: list[str] = []
    before: list[Counter[str]] = [Counter()]
    pending_texts: list[str] = []
    place: tuple[str, ...] = ()
    shared_path: tuple[str, ...] = ()
    first = width = 0
    for event, node in etree.iterwalk(root, events=("start", "end")):
        if not isinstance(node.tag, str):
            continue
        if event == "start":
            path.append(local_name(node.tag)[:MAX_TITLE_CHARS])
            before[-1][path[-1]] += 1
            number, after = before[-1][path[-1]], node.getnext()
            several = number > 1 or (after is not None and after.tag == node.tag)
            steps.append(f"{path[-1]}[{number}]" if several else path[-1])
            before.append(Counter())
            content = _text_of(node, path[-1])
            above = tuple(path[:-1]) if len(node) == 0 else tuple(path)
        else:
            path.pop()
            steps.pop()
            before.pop()
            content, above = " ".join((node.tail or "").split()), tuple(path)
        if not content:
            continue
        if pending_texts and (above != place or width + len(content) > PART_CHARS):
            yield place, shared_path, first, pending_texts
            pending_texts, width = [], 0
        if not pending_texts:
            place, first, shared_path = above, node.sourceline or 1, tuple(steps[: len(above)])
        shared_path = tuple(
            step
            for step, _ in takewhile(lambda pair: pair[0] == pair[1], zip(shared_path, steps, strict=False))
        )
        pending_texts.append(content)
        width += len(content)
    if pending_texts:
        yield place, shared_path, first, pending_texts


def _text_of(node: Any, name: str) -> str:
    """Return the attributes and direct text of an element."""
    attributes = " ".join(f'{local_name(key)}="{value}"' for key, value in node.attrib.items())
    own_text = " ".join((node.text or "").split())
    if not attributes and not own_text:
        return ""
    return f"{name}{f' ({attributes})' if attributes else ''}: {own_text}".rstrip(": ")
