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
_FIELD = re.compile(r"([\w.-]+)[ \t]*:(?:\s|$)")
_QUOTED = re.compile(r"([\"'])(.+)\1")

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
    front = False
    rule = ""
    is_shown = True
    with open_text(source) as lines:
        shown_lines = ShownLines(lines)
        for number, raw in enumerate(shown_lines):
            line = raw.replace("\x00", "\ufffd")
            if number == 0:
                front = line.rstrip() == "---"
                if front:
                    rule = line
                    continue
            elif number == 1 and front and not _FIELD.match(line):
                front = False  # the first line is a horizontal rule, not front matter
                section.add(rule)
            elif front:
                if number == 1:
                    section.add("")
                front = line.rstrip() not in ("---", "...") and section.length < SEGMENT_CHARS
                field, value = _field(line)
                if field == "title" and value:
                    section.enter(0, clean_title(value))
                if field or not front:
                    is_shown = front and field not in _LAYOUT_FIELDS
                if field in _ABOUT_FIELDS:
                    line = f"{value}\n" if value else ""
                section.add(line if is_shown else "", shown_lines.line_count)
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
