"""uvicorn's WebSocket over ``websockets``, which a connection becomes that asks for it.

Imported with the first one: the package takes a twentieth of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request

MAX_MESSAGE_FRAMES: Final = 1_024
"""Frames of one message: an empty one costs its sender six bytes, and us an object."""


class WebSocketConnection(WebSocketsSansIOProtocol):
    """``connection`` goes into the scope as it does with HTTP; ``on_leave`` is called once when the connection is gone.

    Whoever serves it finds it in the scope and sets ``count``, which is called with the bytes of what is held here of
    messages: those that are on their way and those that are not done. It returns the message to end the connection with
    if that is too much.
    """

    def __init__(
        self, *arguments: Any, connection: object, on_leave: Callable[[], None], **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._connection = connection
        self._left = on_leave
        self.count: Callable[[int], str | None] = lambda _size: None
        self._whole = 0
        """Bytes of the messages that are complete and not done."""

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        if self.close_sent:
            return
        last = self.count(self._held())
        if last is not None:
            self.conn.send_text(last.encode())
            self.conn.fail(CloseCode.TRY_AGAIN_LATER, "too many bytes are waiting")
            self.handle_parser_exception()

    def send_receive_event_to_app(self) -> None:
        """A message is complete."""
        self._whole += sum(map(len, self.frames))
        super().send_receive_event_to_app()

    def done(self, size: int) -> None:
        """A message of so many bytes is needed no longer."""
        self._whole -= size
        self.count(self._held())

    def _held(self) -> int:
        return self._whole + sum(map(len, self.frames)) + len(self.conn.reader.buffer)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        self._left()

    def handle_connect(self, event: Request) -> None:
        """The handshake is complete: the application's task, which begins later, finds its connection."""
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", {})
        scope["portico.connection"] = self._connection
        scope["portico.socket"] = self

    def handle_cont(self, event: Frame) -> None:
        """A further frame of a message."""
        if len(self.frames) < MAX_MESSAGE_FRAMES:
            super().handle_cont(event)
            return
        self.conn.fail(CloseCode.MESSAGE_TOO_BIG, f"a message has more than {MAX_MESSAGE_FRAMES} frames")
        self.handle_parser_exception()
