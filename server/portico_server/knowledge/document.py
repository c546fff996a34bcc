"""A document to read, its parts, and the error of one that cannot be read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

from portico.wire import Place
from portico_server.core.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """Text, and where it stands: a page, a section, a segment of a long text; a chunk is a smaller part."""

    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """A document to read: a file on disk, or the bytes of one that lies inside another.

    ``name`` gives the format. ``heading`` says where in the outer document it lies; its parts carry it.
    """

    name: str
    content: Path | bytes
    heading: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    def open(self) -> BinaryIO:
        """Its bytes from the beginning."""
        return io.BytesIO(self.content) if isinstance(self.content, bytes) else self.content.open("rb")

    def read(self) -> bytes:
        """All of its bytes."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


class Unreadable(Exception):
    """A document cannot be read. ``code`` is one of OpenAI's: ``unsupported_file``, ``invalid_file``, ``server_error``.

    The message continues a sentence that begins with the name of the file: ``is protected by a password …``.
    """

    def __init__(self, message: str, code: str = "invalid_file") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class PartWriter:
    """Makes parts out of texts that follow each other: the extracted text is those texts, a line break between them."""

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
