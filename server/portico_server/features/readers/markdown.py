"""Markdown: one part per section, with the marks of Markdown but without HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator

from portico_server.features.chunkers.document import Part, SourceDocument
from portico_server.features.readers.markdown_lines import ShownLines, without_attributes
from portico_server.features.readers.section import SectionReader, clean_title, without_closing_marks
from portico_server.features.readers.text import SEGMENT_CHARS, open_text

_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?$")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*$")
# A link ends before the next one begins, so that each character is read once.
_MARKS = re.compile(r"!?\[([^\[\]]*)\]\([^()]*+(?:\([^()]*+\)[^()]*+)*+\)|[*_`]+|<[^<>]+>")
_FIELD = re.compile(r"[\w.-]+[ \t]*:(?:\s|$)")
_TITLE = re.compile(r"title:[ \t]+(\S.*)")
_QUOTED = re.compile(r"([\"'])(.+)\1")


def read(source: SourceDocument) -> Iterator[Part]:
    """Yield sections, each with the path of headings above it, which begins with the title in the front matter.

    ``#`` inside code fences is not a heading.
    """
    section = SectionReader()
    front = False
    with open_text(source) as lines:
        shown_lines = ShownLines(lines)
        for number, raw in enumerate(shown_lines):
            line = raw.replace("\x00", "\ufffd")
            if number == 0:
                front = line.rstrip() == "---"
            elif number == 1 and not _FIELD.match(line):
                front = False  # the first line is a horizontal rule, not front matter
            elif front:
                front = line.rstrip() not in ("---", "...") and section.length < SEGMENT_CHARS
                if match := _TITLE.match(line):
                    title = match[1].rstrip()
                    quoted = _QUOTED.fullmatch(title)
                    section.enter(0, clean_title(quoted[2] if quoted else title))
                section.add(line, shown_lines.line_count)
                continue
            if not shown_lines.is_code and (atx := _ATX.match(line)):
                yield from section.flush()
                title = without_attributes(without_closing_marks(atx.group(2) or "", "#"))
                section.enter(len(atx.group(1)), clean(title))
                line = f"{atx.group(1)} {title}\n" if title else line
            elif not shown_lines.is_code and (setext := _SETEXT.match(line)) and section.title_above():
                title = section.take_last()
                yield from section.flush()
                section.enter(1 if setext.group(1)[0] == "=" else 2, clean(title))
                section.add(title)
            section.add(line, shown_lines.line_count)
            if section.length > SEGMENT_CHARS:
                yield from section.flush()
    yield from section.flush()


def clean(title: str) -> str:
    """Return a heading without the markup of links, emphasis and code."""
    return _MARKS.sub(lambda match: match.group(1) or "", title).strip()
