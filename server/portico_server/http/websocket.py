"""uvicorn's WebSocket over ``websockets``, for connections that are upgraded.

Imported with the first WebSocket, because importing the package takes a twentieth of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request

MAX_MESSAGE_FRAMES: Final = 1_024
"""Maximum number of frames in a message: an empty frame costs its sender six bytes, and the daemon an object."""


class WebSocketConnection(WebSocketsSansIOProtocol):
    """A WebSocket connection.

    The scope contains ``connection`` as for HTTP. ``on_leave`` is called once when the connection is closed.

    The handler finds the WebSocket in the scope and sets ``count``. ``count`` is called with the bytes of the messages
    in memory, both incoming and not yet processed. If that is too much, ``count`` returns the reason for closing the
    connection.
    """

    def __init__(
        self, *arguments: Any, connection: object, on_leave: Callable[[], None], **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._connection = connection
        self._on_leave = on_leave
        self.count: Callable[[int], str | None] = lambda _size: None
        self._complete_bytes = 0
        """Bytes of complete messages that are not processed yet."""

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        if self.close_sent:
            return
        last = self.count(self._pending_bytes())
        if last is not None:
            self.conn.send_text(last.encode())
            self.conn.fail(CloseCode.TRY_AGAIN_LATER, "too many bytes are pending")
            self.handle_parser_exception()

    def send_receive_event_to_app(self) -> None:
        """Pass on a complete message."""
        self._complete_bytes += sum(map(len, self.frames))
        super().send_receive_event_to_app()

    def release(self, size: int) -> None:
        """Release a processed message of ``size`` bytes."""
        self._complete_bytes -= size
        self.count(self._pending_bytes())

    def _pending_bytes(self) -> int:
        return self._complete_bytes + sum(map(len, self.frames)) + len(self.conn.reader.buffer)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        self._on_leave()

    def handle_connect(self, event: Request) -> None:
        """Complete the handshake. The task of the application starts later and finds its connection."""
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", {})
        scope["portico.connection"] = self._connection
        scope["portico.socket"] = self

    def handle_cont(self, event: Frame) -> None:
        """Handle a continuation frame of a message."""
        if len(self.frames) < MAX_MESSAGE_FRAMES:
            super().handle_cont(event)
            return
        self.conn.fail(CloseCode.MESSAGE_TOO_BIG, f"a message has more than {MAX_MESSAGE_FRAMES} frames")
        self.handle_parser_exception()
