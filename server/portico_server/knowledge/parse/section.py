"""Lines of a text that are gathered into sections, with the headings above them, and the title of a document."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath

from lxml import etree

from portico.wire import Place
from portico_server.knowledge.document import Part


class SectionReader:
    """The lines since the last heading, and the headings above them."""

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []
        self._lines: list[str] = []
        self._line, self._offset = 1, 0
        self.length = 0

    def enter(self, level: int, title: str) -> None:
        """A heading begins: it ends those of its level and below. Level 0 is the title of the document, which the first
        heading may repeat.
        """
        if self._path == [(0, title)]:
            self._path.clear()
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        if title:
            self._path.append((level, title))

    def add(self, line: str) -> None:
        """A line, its break included."""
        self._lines.append(line)
        self.length += len(line)

    def ends_with(self, marks: str) -> bool:
        """Whether the last line begins with ``marks``: the line above a heading that is drawn around."""
        return bool(self._lines) and self._lines[-1].startswith(marks)

    def title_above(self, over: str = "") -> bool:
        """Whether the last line can be the text of a heading that is underlined: one line that begins a
        paragraph, or lies below a line of ``over``."""
        lines = self._lines
        starts = len(lines) == 1 or (len(lines) > 1 and lines[-2].strip().strip(over or None) == "")
        return bool(lines) and starts and bool(lines[-1].strip()) and lines[-1].lstrip()[0] not in "|>-*+#"

    def take_last(self) -> str:
        """Take the last line back: it turned out to be a heading."""
        line = self._lines.pop()
        self.length -= len(line)
        return line

    def flush(self) -> Iterator[Part]:
        """The lines so far as a part, if there is anything in them."""
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


MAX_TITLE_CHARS = 200
"""Characters of a title."""

_PROGRAM = re.compile(r"^microsoft (?:office )?(?:word|powerpoint|excel) - ", re.I)
_SUFFIX = re.compile(
    r"\.(?:docx?|docm|dotx?|rtf|odt|pptx?|odp|xlsx?|tex|dvi|ps|eps|indd|qxd|fm|pub|wpd|pdf)$", re.I
)
_NOTHING = re.compile(
    r"(?:untitled|no title|title|unnamed|unknown|none|new|blank|(?:word |new )?document|"
    r"(?:powerpoint )?presentation|slide|unbenannt|sans titre|sin título|无标题|未命名|無題)?[\W\d_]*",
    re.I,
)
"""What programs put there where nobody has said anything."""

_CORE = "docProps/core.xml"
TITLE_ELEMENT = "{http://purl.org/dc/elements/1.1/}title"
"""The element that has the title in the properties of Office documents and OpenDocument."""


def clean_title(text: str | None, name: str = "") -> str:
    """A title as it stands in the properties of a file; empty where it says no more than the ``name`` of the file."""
    title = " ".join((text or "").replace("\x00", " ").split())
    title = _SUFFIX.sub("", _PROGRAM.sub("", title)).strip()
    stem = PurePosixPath(name).stem.casefold()
    return "" if _NOTHING.fullmatch(title) or title.casefold() == stem else title[:MAX_TITLE_CHARS].strip()


def heading_below(title: str, heading: tuple[str, ...]) -> tuple[str, ...]:
    """A path of headings with the title of the document above it, unless it begins with that."""
    if not title or (heading and heading[0].casefold() == title.casefold()):
        return heading
    return (title, *heading)


def office_title(archive: zipfile.ZipFile, name: str) -> str:
    """The title in the properties of an Office document called ``name``."""
    if _CORE not in archive.NameToInfo:
        return ""
    try:
        parser = etree.XMLParser(resolve_entities=False, no_network=True)
        return clean_title(etree.fromstring(archive.read(_CORE), parser).findtext(TITLE_ELEMENT), name)
    except (zipfile.BadZipFile, etree.XMLSyntaxError, NotImplementedError, RuntimeError, ValueError):
        return ""  # the text is what counts
