"""Markdown: one part for each section, its text as it stands in the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from portico.wire import Place
from portico_server.knowledge.parse.text import SEGMENT, open_text
from portico_server.knowledge.part import Part

_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_MARKS = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|[*_`]+|<[^>]+>")


def read(path: Path) -> Iterator[Part]:
    """Sections with the path of headings above them; ``#`` inside code fences is no heading."""
    section = _Section()
    fence = ""
    with open_text(path) as source:
        for raw in source:
            line = raw.replace("\x00", "\ufffd")
            mark = _FENCE.match(line)
            if mark and not fence:
                fence = mark.group(1)
            elif mark and line.strip().startswith(fence) and not line.strip(" \t\n" + fence[0]):
                fence = ""
            elif not fence and (atx := _ATX.match(line)):
                yield from section.flush()
                section.enter(len(atx.group(1)), atx.group(2) or "")
            elif not fence and (setext := _SETEXT.match(line)) and section.title_above():
                title = section.take_last()
                yield from section.flush()
                section.enter(1 if setext.group(1)[0] == "=" else 2, title)
                section.add(title)
            section.add(line)
            if section.length > SEGMENT:
                yield from section.flush()
    yield from section.flush()


class _Section:
    """The lines since the last heading, and the headings above them."""

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []
        self._lines: list[str] = []
        self._line, self._offset = 1, 0
        self.length = 0

    def enter(self, level: int, title: str) -> None:
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        clean = _MARKS.sub(lambda match: match.group(1) or "", title).strip()
        if clean:
            self._path.append((level, clean))

    def add(self, line: str) -> None:
        self._lines.append(line)
        self.length += len(line)

    def title_above(self) -> bool:
        """Whether the last line can be the text of a heading that is underlined: one line that begins a paragraph."""
        lines = self._lines
        starts = len(lines) == 1 or (len(lines) > 1 and not lines[-2].strip())
        return bool(lines) and starts and bool(lines[-1].strip()) and lines[-1].lstrip()[0] not in "|>-*+#"

    def take_last(self) -> str:
        line = self._lines.pop()
        self.length -= len(line)
        return line

    def flush(self) -> Iterator[Part]:
        text = "".join(self._lines)
        if text.strip():
            heading = tuple(title for _level, title in self._path)
            yield Part(
                text,
                Place(line=self._line, heading=heading, start=self._offset, end=self._offset + len(text)),
            )
        self._line += text.count("\n")
        self._offset += len(text)
        self._lines, self.length = [], 0
