"""A document to read, its parts, and the error for an unreadable document."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

from portico.wire import Place
from portico_server.core.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """A text and its position: a page, a section or a segment of a long text. A chunk is a part too, only smaller."""

    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """A document to read: a file on disk, or the bytes of a document embedded in another document.

    ``name`` determines the format. ``heading`` locates an embedded document in the outer document; its parts inherit
    the heading.
    """

    name: str
    content: Path | bytes
    heading: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Size of the document in bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    def open(self) -> BinaryIO:
        """Open the document for reading."""
        return io.BytesIO(self.content) if isinstance(self.content, bytes) else self.content.open("rb")

    def read(self) -> bytes:
        """Return all bytes of the document."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


@dataclass(frozen=True, slots=True)
class NotRead:
    """Something that a reader left out of a document, such as ``2 pages of music``. The last part lists it."""

    what: str


class Unreadable(Exception):
    """A document cannot be read. ``code`` is one of OpenAI's codes: ``unsupported_file``, ``invalid_file``,
    ``server_error``.

    The message continues a sentence that begins with the file name: ``is protected by a password …``.
    """

    def __init__(self, message: str, code: str = "invalid_file") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class PartWriter:
    """Builds parts from consecutive texts. The extracted text of the document is these texts, separated by line
    breaks.
    """

    def __init__(self) -> None:
        self._offset = 0

    def part(
        self,
        text: str,
        *,
        page: int | None = None,
        line: int | None = None,
        heading: tuple[str, ...] = (),
        row: int | None = None,
        sheet: str | None = None,
        cell: str | None = None,
        seconds: float | None = None,
        symbol: str | None = None,
    ) -> Part:
        start = self._offset
        end = start + len(text)
        self._offset = end + 1
        return Part(text, Place(page, line, heading, row, start, end, sheet, cell, seconds, symbol))
