"""The output to which a connection writes its responses."""

from __future__ import annotations

import asyncio
import contextlib

from portico_server.http.progress import BODY, RequestProgress


class Output:
    """The output to which uvicorn writes a response. `hold` delays a write until the next write, so that both are sent
    together. While the client is still sending its request, `close` ends the responses but keeps the connection open.

    Each write is a system call and a packet. If the head is held, a short response is sent in one packet instead of
    two.
    """

    __slots__ = ("_holds", "_pending_data", "_progress", "_transport", "has_ended")

    def __init__(self, transport: asyncio.Transport, progress: RequestProgress) -> None:
        self._transport = transport
        self._progress = progress
        self.has_ended = False
        """Whether the last response is complete and the connection stays open for the rest of the request."""
        self._pending_data = b""
        self._holds = False

    def hold(self) -> None:
        """Hold back the data of the next write until another write follows or the output is closed."""
        self._holds = True

    def write(self, data: bytes) -> None:
        """See ``asyncio.WriteTransport``."""
        if self._holds:
            self._holds = False
            self._pending_data = data
        elif self._pending_data:
            held_data, self._pending_data = self._pending_data, b""
            self._transport.write(held_data + data)
        else:
            self._transport.write(data)

    def close(self) -> None:
        """See ``asyncio.BaseTransport``."""
        self.write(b"")
        if self._progress.phase != BODY:
            self._transport.close()
            return
        # Closing a connection with unread bytes resets it, and the client or a proxy could not read the response.
        self.has_ended = True
        end_writing(self._transport)

    def is_closing(self) -> bool:
        """See ``asyncio.BaseTransport``."""
        return self._transport.is_closing()


def end_writing(transport: asyncio.Transport) -> None:
    """Close the write side of a connection, and keep reading from it."""
    with contextlib.suppress(OSError, RuntimeError):
        transport.write_eof()
