"""The caller of one request: whether it is still connected, and how it receives the response."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Callable, Mapping
from io import BufferedIOBase
from typing import Any

from .errors import CallerGone


class Caller:
    """A connection with one request."""

    def __init__(self, connection: socket.socket, out: BufferedIOBase, begin: Callable[[str], None]) -> None:
        self._connection = connection
        self._out = out
        self._begin = begin
        self.streaming = False
        """True once the status and headers of a stream have been sent."""
        self.raw = ""
        """The media type of a response whose pieces are not events."""

    def has_left(self) -> bool:
        """Return whether the caller has closed the connection."""
        try:
            readable, _, _ = select.select([self._connection], [], [], 0)
            return bool(readable) and not self._connection.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):
            return True

    def check(self) -> None:
        """Raise `CallerGone` if the caller has left."""
        if self.has_left():
            raise CallerGone

    def comment(self, words: str) -> None:
        """Send a comment line of the stream, which every client ignores."""
        self._send(f": {words}\n\n".encode())

    def event(self, document: Mapping[str, Any]) -> None:
        """Send a frame of the stream."""
        self._send(b"data: " + json.dumps(document, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n")

    def finish(self) -> None:
        """Send the end of the stream."""
        self._send(b"data: [DONE]\n\n")

    def piece(self, data: bytes, media_type: str) -> None:
        """Send a piece of a response that is not an event stream, such as audio. Call `last` after the final piece."""
        if not self.raw:
            self.raw = media_type
        if data:
            self._send(b"%x\r\n%b\r\n" % (len(data), data))

    def last(self) -> None:
        """Mark the response as complete. If this mark is missing, the reader knows that the response was
        interrupted.
        """
        self._send(b"0\r\n\r\n")

    def _send(self, data: bytes) -> None:
        if self.has_left():
            raise CallerGone
        try:
            if not self.streaming:
                self.streaming = True
                self._begin(self.raw)
            self._out.write(data)
        except OSError as error:
            raise CallerGone from error
