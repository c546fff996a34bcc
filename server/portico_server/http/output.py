"""Where the answers of a connection are written."""

from __future__ import annotations

import asyncio


class Output:
    """Where uvicorn writes an answer. A piece that is held goes out with the next one.

    Each write is a system call and a packet: with the head held, a short answer is one of them, not two.
    """

    __slots__ = ("_held", "_holds", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held = b""
        self._holds = False

    def hold(self) -> None:
        """Keep what is written next until something else is written, or the connection is closed."""
        self._holds = True

    def write(self, data: bytes) -> None:
        """See ``asyncio.WriteTransport``."""
        if self._holds:
            self._holds = False
            self._held = data
        elif self._held:
            held_data, self._held = self._held, b""
            self._transport.write(held_data + data)
        else:
            self._transport.write(data)

    def close(self) -> None:
        """See ``asyncio.BaseTransport``."""
        self.write(b"")
        self._transport.close()

    def is_closing(self) -> bool:
        """See ``asyncio.BaseTransport``."""
        return self._transport.is_closing()
