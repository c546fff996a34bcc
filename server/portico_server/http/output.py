"""The output to which a connection writes its responses."""

from __future__ import annotations

import asyncio


class Output:
    """The output to which uvicorn writes a response. `hold` delays a write until the next write, so that both are sent
    together.

    Each write is a system call and a packet. If the head is held, a short response is sent in one packet instead of
    two.
    """

    __slots__ = ("_holds", "_pending_data", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
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
        self._transport.close()

    def is_closing(self) -> bool:
        """See ``asyncio.BaseTransport``."""
        return self._transport.is_closing()
