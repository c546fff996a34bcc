"""Progress of receiving a request. The time that the client takes is counted in calls of `Connections.sweep`
(seconds).
"""

from __future__ import annotations

from typing import Final

from portico_server.http.errors import MAX_HEADER_BYTES, MAX_HEADERS

MIN_BODY_BYTES_PER_S: Final = 1024
MAX_LINGER_S: Final = 2
"""Seconds that a refused client has to read the error, while further data from the client is discarded."""

MAX_DRAIN_S: Final = 60
MAX_DRAIN_BYTES: Final = 1024**3
"""Maximum time and size of the rest of a body that is discarded after the response. Some proxies read the response
only after they have sent the whole body.
"""

MAX_WRITE_STALL_S: Final = 120
"""Maximum time, in seconds, for which a client may read nothing of a response that is waiting to be sent."""

WAITING, HEAD, BODY, COMPLETE, REFUSED, UPGRADED = range(6)
"""How much of a request has arrived: nothing, some of its headers, all headers, or the complete request. The request
can also have been refused, or the connection can have become a WebSocket.
"""


class RequestProgress:
    """The progress of the request that a connection is receiving."""

    __slots__ = ("_header_bytes", "_receiving", "_unparsed_bytes", "body_bytes", "phase", "seconds")

    def __init__(self) -> None:
        self.phase = WAITING
        self.seconds = 0
        """Seconds spent in this phase, or since the measurement of the body was restarted."""
        self.body_bytes = 0
        self._header_bytes = 0
        self._unparsed_bytes = 0
        self._receiving = False

    def begin(self) -> None:
        """Record that a request begins."""
        self.phase = HEAD
        self._receiving = False
        self.seconds = self._header_bytes = self._unparsed_bytes = self.body_bytes = 0

    def enter(self, phase: int) -> None:
        """Enter a phase and restart its time at zero."""
        self.phase = phase
        self.seconds = 0

    def takes_header(self, size: int, count: int) -> bool:
        """Count another header. Return whether it is within the limits, given its ``size`` in bytes and the ``count``
        of earlier headers.
        """
        self._header_bytes += size
        return self._header_bytes <= MAX_HEADER_BYTES and count < MAX_HEADERS

    def takes_piece(self, size: int) -> bool:
        """Count ``size`` more bytes of the headers. Return whether the bytes received so far are within the limit.

        The parser reports only complete headers, so this method limits a header that never ends. The piece of data in
        which the request begins is not counted, because it can contain the end of an earlier request.
        """
        self._unparsed_bytes += size if self._receiving else 0
        self._receiving = True
        return self._unparsed_bytes <= MAX_HEADER_BYTES

    def restart_body(self) -> None:
        """Restart the measurement of the body."""
        self.seconds = self.body_bytes = 0

    def is_slow_body(self) -> bool:
        """Return whether the body arrived more slowly than `MIN_BODY_BYTES_PER_S`."""
        return self.body_bytes < MIN_BODY_BYTES_PER_S * self.seconds

    def is_drained(self) -> bool:
        """Return whether no more of a body is read whose request has been answered: the rest arrives too slowly, or it
        exceeds `MAX_DRAIN_S` or `MAX_DRAIN_BYTES`.
        """
        return (
            (self.seconds > MAX_LINGER_S and self.is_slow_body())
            or self.seconds > MAX_DRAIN_S
            or self.body_bytes > MAX_DRAIN_BYTES
        )


class WriteStall:
    """Measures how long a client has read nothing although data is waiting for it."""

    __slots__ = ("_seconds", "_unsent_bytes")

    def __init__(self) -> None:
        self._seconds = 0
        self._unsent_bytes = 0

    def end(self) -> None:
        """Record that no data is waiting for the client."""
        self._seconds = 0

    def is_over(self, unsent_bytes: int) -> bool:
        """Count another second. Return whether the client has timed out while ``unsent_bytes`` are waiting for it."""
        self._seconds = self._seconds + 1 if unsent_bytes == self._unsent_bytes else 0
        self._unsent_bytes = unsent_bytes
        return self._seconds > MAX_WRITE_STALL_S
