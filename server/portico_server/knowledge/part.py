"""A piece of a document."""

from __future__ import annotations

from dataclasses import dataclass

from portico.wire import Place


@dataclass(frozen=True, slots=True)
class Part:
    """Text, and where it stands: a page, a section, a segment of a long text; a chunk is a smaller part."""

    text: str
    place: Place


class Unreadable(Exception):
    """A document cannot be read. ``code`` is one of OpenAI's: ``unsupported_file``, ``invalid_file``, ``server_error``.

    The message continues a sentence that begins with the name of the file: ``is protected by a password …``.
    """

    def __init__(self, message: str, code: str = "invalid_file") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class Writer:
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
    ) -> Part:
        start = self._offset
        self._offset = start + len(text) + 1
        return Part(text, Place(page, line, heading, row, start, start + len(text)))
