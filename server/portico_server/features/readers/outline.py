"""reStructuredText, AsciiDoc, Org and LaTeX: one part per section, with the source text unchanged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TextIO

from portico_server.features.chunkers.document import Part, SourceDocument
from portico_server.features.readers.section import SectionReader, without_closing_marks
from portico_server.features.readers.text import SEGMENT_CHARS, open_text

_MARKED = {
    "adoc": re.compile(r"(?P<marks>={1,6})[ \t]+(?P<title>\S.*)"),
    "org": re.compile(r"(?P<marks>\*{1,8})[ \t]+(?:(?:TODO|DONE)[ \t]+)?(?P<title>\S.*)"),
}
_ORG_TAGS = re.compile(r":[\w@:]+:")
_TEX = re.compile(
    r"[ \t]*\\(part|chapter|section|subsection|subsubsection|paragraph)\*?(?:\[[^\]]*\])?\{(.+)\}"
)
_TEX_LEVELS = ("part", "chapter", "section", "subsection", "subsubsection", "paragraph")
_UNDERLINE = re.compile(r"([=\-`:'\"~^_*+#<>.])\1{2,}[ \t]*$")


def read(source: SourceDocument) -> Iterator[Part]:
    """Yield sections, each with the path of headings above it."""
    suffix = PurePosixPath(source.name).suffix.lower().lstrip(".")
    with open_text(source) as text:
        yield from _underlined(text) if suffix == "rst" else _read_marked_parts(text, suffix)


def _read_marked_parts(text: TextIO, suffix: str) -> Iterator[Part]:
    section = SectionReader()
    for raw in text:
        line = raw.replace("\x00", "\ufffd")
        heading = _heading(line, suffix)
        if heading is not None or section.length > SEGMENT_CHARS:
            yield from section.flush()
        if heading is not None:
            section.enter(*heading)
        section.add(line)
    yield from section.flush()


def _heading(line: str, suffix: str) -> tuple[int, str] | None:
    if suffix == "tex":
        command = _TEX.match(line)
        return command and (
            _TEX_LEVELS.index(command[1]) + 1,
            re.sub(r"[{}]|\\[a-zA-Z]+", "", command[2]).strip(),
        )
    match = _MARKED[suffix].match(line)
    if match is None:
        return None
    title, level = match["title"].rstrip(), len(match["marks"])
    if suffix == "adoc":
        return level, without_closing_marks(title, "=")
    before, *last = title.rsplit(maxsplit=1)
    return level, before if last and _ORG_TAGS.fullmatch(last[0]) else title


def _underlined(text: TextIO) -> Iterator[Part]:
    """Yield the sections of reStructuredText. The first kind of underline in a file marks the top level, the next kind
    the second level, and so on.
    """
    section = SectionReader()
    levels: list[str] = []
    for raw in text:
        line = raw.replace("\x00", "\ufffd")
        mark = _UNDERLINE.match(line)
        if mark and section.title_above(mark[1]):
            title = section.take_last()
            if len(mark.group().rstrip()) + 2 >= len(title.strip()):
                over = section.take_last() if section.ends_with(mark[1] * 3) else ""
                yield from section.flush()
                style = f"{over[:1]}{mark[1]}"
                if style not in levels:
                    levels.append(style)
                section.enter(levels.index(style) + 1, title.strip())
                section.add(over)
            section.add(title)
        section.add(line)
        if section.length > SEGMENT_CHARS:
            yield from section.flush()
    yield from section.flush()
