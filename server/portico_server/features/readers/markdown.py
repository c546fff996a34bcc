"""Markdown: one part per section, with the marks of Markdown but without HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from portico_server.features.chunkers.document import Part, SourceDocument
from portico_server.features.readers.markdown_lines import ShownLines, without_attributes
from portico_server.features.readers.section import SectionReader, clean_title, without_closing_marks
from portico_server.features.readers.text import SEGMENT_CHARS, open_text

_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?$")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*$")
# A link ends before the next one begins, so that each character is read once.
_MARKS = re.compile(r"!?\[([^\[\]]*)\]\([^()]*+(?:\([^()]*+\)[^()]*+)*+\)|[*_`]+|<[^<>]+>")
_FIELD = re.compile(r"([\w.-]+)[ \t]*:(?:\s|$)")
_QUOTED = re.compile(r"([\"'])(.+)\1")

_Line: TypeAlias = tuple[str, int]
"""A line, and the number of lines of the file in which it is written."""

_BLOCK_MARKS = frozenset({"|", ">", "|-", ">-"})
_ABOUT_FIELDS = frozenset({"description", "summary", "abstract", "excerpt", "lead"})
"""Fields of front matter whose values say what a page is about."""

_LAYOUT = (
    "title aliases alias weight layout slug permalink url id sidebar_label sidebar_position sidebar_class_name draft "
    "redirect_from redirect_to toc type content_type template nav_order nav_title parent has_children hide math "
    "hide_sidebar hide_commit hide_title pagination_next pagination_prev displayed_sidebar custom_edit_url"
)
_LAYOUT_FIELDS = frozenset(_LAYOUT.split())
"""Fields of front matter that tell a program how to show a page. The title is a heading."""


def read(source: SourceDocument) -> Iterator[Part]:
    """Yield sections, each with the path of headings above it, which begins with the title in the front matter.

    ``#`` inside code fences is not a heading.
    """
    section = SectionReader()
    front: list[_Line] = []
    front_chars = 0
    with open_text(source) as lines:
        shown_lines = ShownLines(lines)
        for number, raw in enumerate(shown_lines):
            line = raw.replace("\x00", "\ufffd")
            if number == 0 and line.rstrip() == "---":
                front = [(line, shown_lines.line_count)]
                continue
            if len(front) == 1 and not _FIELD.match(line):
                section.add(*front.pop())  # the first line is a horizontal rule, not front matter
            elif front:
                front.append((line, shown_lines.line_count))
                is_closed = line.rstrip() in ("---", "...")
                front_chars += len(line)
                if is_closed or front_chars > SEGMENT_CHARS:
                    _add_front(section, front, is_closed=is_closed)
                    front = []
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
    _add_front(section, front, is_closed=False)
    yield from section.flush()


def _add_front(section: SectionReader, front: Sequence[_Line], *, is_closed: bool) -> None:
    """Add front matter to a section: its title as heading, and the fields that are not about the layout. Without a
    closing line, the lines are text.
    """
    if not is_closed:
        for line, line_count in front:
            section.add(line, line_count)
        return
    section.add("", front[0][1])
    is_shown = True
    for line, line_count in front[1:-1]:
        field, value = _field(line)
        if field:
            is_shown = field not in _LAYOUT_FIELDS
        if field == "title" and value:
            section.enter(0, clean_title(value))
        text = f"{value}\n" if field in _ABOUT_FIELDS and value else "" if field in _ABOUT_FIELDS else line
        section.add(text if is_shown else "", line_count)
    section.add("", front[-1][1])


def _field(line: str) -> tuple[str, str]:
    """Return the name and the value of a field of front matter; two empty strings for a line that continues one."""
    match = _FIELD.match(line)
    if match is None:
        return "", ""
    value = line[match.end() :].strip()
    quoted = _QUOTED.fullmatch(value)
    return match[1].lower(), quoted[2] if quoted else "" if value in _BLOCK_MARKS else value


def clean(title: str) -> str:
    """Return a heading without the markup of links, emphasis and code."""
    return _MARKS.sub(lambda match: match.group(1) or "", title).strip()
