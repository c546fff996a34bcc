"""Gathers the lines of a text into sections with the headings above them, and extracts the title of a document."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from lxml import etree

from portico.wire import Place
from portico_server.features.chunkers.document import Part


class SectionReader:
    """The lines since the last heading, and the headings above them."""

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []
        self._lines: list[str] = []
        self._line, self._offset = 1, 0
        self._line_count = 0
        self.length = 0

    def enter(self, level: int, title: str) -> None:
        """Enter a new heading, which ends the headings of the same or a deeper level.

        Level 0 is the title of the document, which the first heading may repeat.
        """
        if self._path == [(0, title)]:
            self._path.clear()
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        if title:
            self._path.append((level, title))

    def add(self, line: str, line_count: int = 1) -> None:
        """Add a line, including its line break, written in ``line_count`` lines of the file."""
        self._lines.append(line)
        self._line_count += line_count
        self.length += len(line)

    def ends_with(self, marks: str) -> bool:
        """Return whether the last line begins with ``marks``, for example the line above an overlined heading."""
        return bool(self._lines) and self._lines[-1].startswith(marks)

    def title_above(self, over: str = "") -> bool:
        """Return whether the last line can be the text of an underlined heading.

        The line must be the only line of its paragraph so far, or follow a line of ``over`` characters or an anchor
        such as ``[[fees]]``.
        """
        lines = self._lines
        line_before = lines[-2].strip() if len(lines) > 1 else ""
        starts = len(lines) == 1 or not line_before.strip(over or None) or line_before.startswith("[[")
        return bool(lines) and starts and bool(lines[-1].strip()) and lines[-1].lstrip()[0] not in "|>-*+#"

    def take_last(self) -> str:
        """Remove and return the last line, because the next line shows that it is a heading."""
        line = self._lines.pop()
        self._line_count -= 1
        self.length -= len(line)
        return line

    def flush(self) -> Iterator[Part]:
        """Yield the collected lines as a part, unless they are blank."""
        text = "".join(self._lines)
        if text.strip():
            heading = tuple(title for _level, title in self._path)
            yield Part(
                text,
                Place(line=self._line, heading=heading, start=self._offset, end=self._offset + len(text)),
            )
        self._line += self._line_count
        self._offset += len(text)
        self._lines, self.length, self._line_count = [], 0, 0


_PAGE_NUMBER = re.compile(r"\b(?:pages?|seite|p|of|von|sur|de)\b|[第页頁共]", re.IGNORECASE)


def without_page_numbers(lines: Iterable[str]) -> list[str]:
    """Return the distinct lines of headers and footers of pages, except for page numbers."""
    return [line for line in dict.fromkeys(lines) if any(map(str.isalpha, _PAGE_NUMBER.sub("", line)))]


MAX_TITLE_CHARS = 200
"""Maximum length of a title in characters."""

_PROGRAM = re.compile(r"^microsoft (?:office )?(?:word|powerpoint|excel) - ", re.I)
_SUFFIX = re.compile(
    r"\.(?:docx?|docm|dotx?|rtf|odt|pptx?|odp|xlsx?|tex|dvi|ps|eps|indd|qxd|fm|pub|wpd|pdf)$", re.I
)
_NOTHING = re.compile(
    r"(?:untitled|no title|title|unnamed|unknown|none|new|blank|(?:word |new )?document|"
    r"(?:powerpoint )?presentation|slide|unbenannt|sans titre|sin título|无标题|未命名|無題)?[\W\d_]*",
    re.I,
)
"""Default titles that programs write if the user has entered none."""

_CORE = "docProps/core.xml"
TITLE_ELEMENT = "{http://purl.org/dc/elements/1.1/}title"
"""The element that contains the title in the properties of Office and OpenDocument files."""


def clean_title(text: str | None, name: str = "") -> str:
    """Return the cleaned title from the properties of a file, or "" if the title says no more than the ``name`` of the
    file.
    """
    title = " ".join((text or "").replace("\x00", " ").split())
    title = _SUFFIX.sub("", _PROGRAM.sub("", title)).strip()
    stem = PurePosixPath(name).stem.casefold()
    return "" if _NOTHING.fullmatch(title) or title.casefold() == stem else title[:MAX_TITLE_CHARS].strip()


def without_closing_marks(title: str, mark: str) -> str:
    """Return a heading without the marks that close it, as in ``## Fees ##``."""
    title = title.rstrip()
    text = title.rstrip(mark)
    return title if text and not text[-1].isspace() else text.rstrip()


def heading_below(title: str, heading: tuple[str, ...]) -> tuple[str, ...]:
    """Return a path of headings below the title of the document, unless it already begins with the title."""
    if not title or (heading and heading[0].casefold() == title.casefold()):
        return heading
    return (title, *heading)


def office_title(archive: zipfile.ZipFile, name: str) -> str:
    """Return the title from the properties of an Office document whose file is called ``name``."""
    if _CORE not in archive.NameToInfo:
        return ""
    try:
        parser = etree.XMLParser(resolve_entities=False, no_network=True)
        return clean_title(etree.fromstring(archive.read(_CORE), parser).findtext(TITLE_ELEMENT), name)
    except (zipfile.BadZipFile, etree.XMLSyntaxError, NotImplementedError, RuntimeError, ValueError):
        return ""  # the text is indexed without the title
