"""reStructuredText, AsciiDoc, Org, LaTeX and plain text with such headings: one part per section. The text is the
source, with the texts of cross-references (`inline_markup`).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TextIO

from portico_server.features.chunkers.document import Part, SourceDocument
from portico_server.features.readers.inline_markup import shown_line
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
_ASCIIDOC_UNDERLINES = "=-~^+"
"""The marks below AsciiDoc titles of two lines, from the title of the document to the fifth level."""

MAX_UNDERLINED_CHARS = 120
"""Maximum length of an underlined heading in plain text."""

MIN_HEADINGS = 2
"""Minimum number of headings in the first `HEADINGS_SAMPLE_BYTES` of a plain text at which it is read in sections."""

HEADINGS_SAMPLE_BYTES = 64 * 1024

_BLOCK = re.compile(r"([-.=*_+])\1{3}")
_UNDERLINE = re.compile(r"([=\-`:'\"~^_*+#<>.])\1{2,}[ \t]*$")


def read(source: SourceDocument) -> Iterator[Part]:
    """Yield sections, each with the path of headings above it."""
    suffix = PurePosixPath(source.name).suffix.lower().lstrip(".")
    with open_text(source) as text:
        yield from _read_marked_parts(text, suffix) if suffix in ("org", "tex") else _underlined(text, suffix)


def has_headings(source: SourceDocument) -> bool:
    """Return whether a plain text has headings as in reStructuredText or AsciiDoc: many manuals end in ``.txt``."""
    with source.open() as file:
        sample = file.read(HEADINGS_SAMPLE_BYTES).decode("utf-8", "replace")
    paths = {part.place.heading for part in _underlined(io.StringIO(sample), "txt")}
    return len(paths - {()}) >= MIN_HEADINGS


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


def _underlined(text: TextIO, suffix: str) -> Iterator[Part]:
    """Yield the sections of reStructuredText, of AsciiDoc or of plain text. The first kind of underline in a file marks
    the top level, the next kind the second level, and so on. In AsciiDoc, equal lines of marks enclose a block.
    """
    section = SectionReader()
    levels = list(_ASCIIDOC_UNDERLINES) if suffix == "adoc" else []
    block_marks = ""
    for raw in text:
        line = raw.replace("\x00", "\ufffd")
        if section.length > SEGMENT_CHARS:
            yield from section.flush()
        if block_marks:
            block_marks = "" if line.rstrip() == block_marks else block_marks
            section.add(line)
            continue
        line = shown_line(line, suffix)
        heading = _heading(line, "adoc") if suffix != "rst" else None
        if heading is not None:
            yield from section.flush()
            section.enter(*heading)
        mark = _UNDERLINE.match(line)
        if mark and section.title_above(mark[1]):
            title = section.take_last()
            if _is_underlined(title.strip(), mark.group().rstrip(), suffix):
                over = section.take_last() if section.ends_with(mark[1] * 3) else ""
                yield from section.flush()
                style = f"{over[:1]}{mark[1]}"
                if style not in levels:
                    levels.append(style)
                section.enter(levels.index(style) + 1, title.strip())
                section.add(over)
                mark = None
            section.add(title)
        if mark and suffix == "adoc" and _BLOCK.match(line):
            block_marks = line.rstrip()
        section.add(line)
    yield from section.flush()


def _is_underlined(title: str, marks: str, suffix: str) -> bool:
    """Return whether marks below a line make it a heading. Outside of reStructuredText, they are about as long as it,
    where a wide character may count twice. Below attributes or an anchor of AsciiDoc, such as ``[source]``, the marks
    begin a block.
    """
    if suffix == "rst":
        return len(marks) + 2 >= len(title)
    wide_count = sum(char > "\u2e7f" for char in title)
    return (
        marks[0] in _ASCIIDOC_UNDERLINES
        and len(title) <= MAX_UNDERLINED_CHARS
        and any(map(str.isalnum, title))
        and not (title[0] == "[" and title[-1] == "]")
        and len(title) - 2 <= len(marks) <= len(title) + wide_count + 2
    )
