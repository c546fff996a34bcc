"""What of a request has come, and how long its client takes. Seconds are the rounds of `Connections.sweep`."""

from __future__ import annotations

from typing import Final

from portico_server.http.errors import MAX_HEADER_BYTES, MAX_HEADERS

MIN_BODY_BYTES_PER_S: Final = 1024
MAX_WRITE_STALL_S: Final = 120
"""Seconds in which a client must take something of an answer that waits for it."""

WAITING, HEAD, BODY, COMPLETE, REFUSED, UPGRADED = range(6)
"""What of a request has come: nothing yet, a part of its headers, all of them, all of it; or it was refused, or has
become a WebSocket."""


class RequestProgress:
    """The request that a connection is receiving."""

    __slots__ = ("_header_bytes", "_receiving", "_unparsed_bytes", "body_bytes", "phase", "seconds")

    def __init__(self) -> None:
        self.phase = WAITING
        self.seconds = 0
        """In this phase, or since the body last had enough."""
        self.body_bytes = 0
        self._header_bytes = 0
        self._unparsed_bytes = 0
        self._receiving = False

    def begin(self) -> None:
        """Note that a request begins."""
        self.phase = HEAD
        self._receiving = False
        self.seconds = self._header_bytes = self._unparsed_bytes = self.body_bytes = 0

    def enter(self, phase: int) -> None:
        """Note a phase, whose seconds count from now."""
        self.phase = phase
        self.seconds = 0

    def takes_header(self, size: int, count: int) -> bool:
        """Whether one more header of so many bytes may come after ``count`` others."""
        self._header_bytes += size
        return self._header_bytes <= MAX_HEADER_BYTES and count < MAX_HEADERS

    def takes_piece(self, size: int) -> bool:
        """Whether so many bytes may come of headers that are not complete.

        The parser reports complete headers only; one that does not end is counted here. The piece with which the
        request begins is not counted: the end of an earlier request may be in it.
        """
        self._unparsed_bytes += size if self._receiving else 0
        self._receiving = True
        return self._unparsed_bytes <= MAX_HEADER_BYTES

    def restart_body(self) -> None:
        """Count the body from now."""
        self.seconds = self.body_bytes = 0

    def is_slow_body(self) -> bool:
        """Whether the body came slower than `MIN_BODY_BYTES_PER_S`."""
        return self.body_bytes < MIN_BODY_BYTES_PER_S * self.seconds


class WriteStall:
    """How long a client has taken nothing of what waits for it."""

    __slots__ = ("_seconds", "_unsent_bytes")

    def __init__(self) -> None:
        self._seconds = 0
        self._unsent_bytes = 0

    def end(self) -> None:
        """Note that nothing waits."""
        self._seconds = 0

    def is_over(self, unsent_bytes: int) -> bool:
        """Whether the client's time is up; ``unsent_bytes`` wait for it now."""
        self._seconds = self._seconds + 1 if unsent_bytes == self._unsent_bytes else 0
        self._unsent_bytes = unsent_bytes
        return self._seconds > MAX_WRITE_STALL_S
