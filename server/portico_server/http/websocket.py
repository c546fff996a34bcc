"""uvicorn's WebSocket protocol, based on the ``websockets`` package, for connections that are upgraded.

Imported for the first WebSocket, because importing the package takes a twentieth of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request

MAX_MESSAGE_FRAMES: Final = 1_024
"""Maximum number of frames in a message: an empty frame costs the sender only six bytes, but the daemon a whole
object.
"""


class WebSocketConnection(WebSocketsSansIOProtocol):
    """A WebSocket connection.

    As for HTTP, ``scope["portico.connection"]`` is the HTTP connection. ``on_leave`` is called once when the
    connection is closed.

    The request handler finds this object as ``scope["portico.socket"]`` and sets its ``count``, a function that is
    called with the number of bytes in memory, of incoming and of unprocessed messages. If the number is too large,
    ``count`` returns the last message to the client, and the connection closes.
    """

    def __init__(
        self, *arguments: Any, connection: Any, on_leave: Callable[[], None], **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._connection = connection
        self._on_leave = on_leave
        self.count: Callable[[int], str | None] = lambda _size: None
        self._complete_bytes = 0
        """Bytes of complete messages that the handler has not processed yet."""

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`. Before the handshake is complete, a client must not send anything (RFC 6455, 4.1)."""
        if self.handshake_initiated and not self.handshake_complete:
            self.transport.close()
            return
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
        """Complete the handshake and add the connection to the scope, which the application reads when its task starts
        later.
        """
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", {})
        request_scope = self._connection.scope
        scope["client"] = request_scope["client"]
        scope["scheme"] = "wss" if request_scope["scheme"] == "https" else "ws"
        for name in ("portico.prefix", "portico.proxied"):
            if name in request_scope:
                scope[name] = request_scope[name]
        scope["portico.connection"] = self._connection
        scope["portico.socket"] = self

    def handle_cont(self, event: Frame) -> None:
        """Handle a continuation frame of a message."""
        if len(self.frames) < MAX_MESSAGE_FRAMES:
            super().handle_cont(event)
            return
        self.conn.fail(CloseCode.MESSAGE_TOO_BIG, f"a message has more than {MAX_MESSAGE_FRAMES} frames")
        self.handle_parser_exception()
