"""Parses the parts of a multipart form as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from portico_server.core.errors import InvalidRequest


class FormParser:
    """Calls ``on_part`` with the headers of each part. Calls ``on_data`` with each piece of its data: bytes, start and
    end.

    Every method raises `InvalidRequest` if the data is not a form.
    """

    def __init__(
        self,
        boundary: bytes,
        on_part: Callable[[Mapping[bytes, bytes]], None],
        on_data: Callable[[bytes, int, int], None],
        on_part_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._header = b""
        self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._has_ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._headers.clear,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": lambda: on_part(self._headers),
                    "on_part_data": on_data,
                    "on_part_end": on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise _unreadable(error) from error

    def write(self, data: bytes) -> None:
        """Parse a piece of the body."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _unreadable(error) from error

    def finish(self) -> None:
        """Check that the form is complete."""
        if not self._has_ended:
            raise InvalidRequest("The form is truncated: its last boundary is missing.", code="invalid_form")

    def close(self) -> None:
        """Drop the parser, whose callbacks form reference cycles, so that the data of the form is freed immediately."""
        del self._parser

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _on_end(self) -> None:
        self._has_ended = True


def _unreadable(error: FormParserError) -> InvalidRequest:
    return InvalidRequest(f"The form cannot be parsed: {error}.", code="invalid_form")
