"""One WebSocket on raw ASGI: JSON messages in both directions, with a timeout for every wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Protocol, Self

import orjson

from portico_server.api.exchange import ClientLeft, Exchange, Message, Receive, Send
from portico_server.api.json_body import parse_in_turn
from portico_server.core.errors import InvalidRequest, PorticoError, TooMany

MAX_SEND_STALL_S: Final = 120.0
"""Seconds within which a client must read a message that was sent to it."""

NORMAL_CLOSE_CODE: Final = 1000
POLICY_CLOSE_CODE: Final = 1008
FAILURE_CLOSE_CODE: Final = 1011


class Wire(Protocol):
    """The connection that a WebSocket uses: `portico_server.http.websocket.WebSocketConnection`."""

    count: Callable[[int], str | None]

    def release(self, size: int) -> None: ...


class WebSocket:
    """A WebSocket. ``exchange`` is the request that opens it, with its caller and its id. Until `accept`, ``exchange``
    can still send an HTTP response.
    """

    def __init__(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        self.exchange = exchange
        self.accepted = False
        self._receive = receive
        self._send = send
        self._wire: Wire | None = exchange.scope.get("portico.socket")
        self._waiting_bytes = self._kept_bytes = 0

    async def accept(self, subprotocol: str | None = None) -> None:
        """Complete the handshake. From now on, a received message counts towards the caller's key until `release`."""
        if self._wire is not None:
            self._wire.count = self._count
        await self._receive()  # websocket.connect
        self.accepted = True
        self.exchange.started = True
        await self._put(
            {"type": "websocket.accept", "headers": self.exchange.extra, "subprotocol": subprotocol}
        )

    async def receive(self) -> str | bytes:
        """Return the next message. Raises `ClientLeft`."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            raise ClientLeft
        text: str | None = message.get("text")
        return message["bytes"] if text is None else text

    def release(self, message: str | bytes) -> None:
        """Release a received message."""
        if self._wire is not None:
            self._wire.release(len(message.encode() if isinstance(message, str) else message))

    def keep(self, size: int) -> bool:
        """Set the number of bytes that stay in memory between messages. Return whether the key may use that much
        memory; if not, no bytes are counted.
        """
        try:
            self.exchange.hold_messages(self._waiting_bytes + size)
        except TooMany:
            size = 0
            self.exchange.hold_messages(self._waiting_bytes)
            return False
        finally:
            self._kept_bytes = size
        return True

    def _count(self, size: int) -> str | None:
        self._waiting_bytes = size
        try:
            self.exchange.hold_messages(size + self._kept_bytes)
        except TooMany as error:
            return orjson.dumps(error_event(error)).decode()
        return None

    async def send(self, document: Mapping[str, Any]) -> None:
        """Send a JSON message. Raise `ClientLeft` if the client has left or does not read."""
        await self._put({"type": "websocket.send", "text": orjson.dumps(document).decode()})

    async def close(self, code: int = NORMAL_CLOSE_CODE, reason: str = "") -> None:
        """Close the WebSocket."""
        await self._put({"type": "websocket.close", "code": code, "reason": reason})

    async def _put(self, message: Message) -> None:
        try:
            async with asyncio.timeout(MAX_SEND_STALL_S):
                await self._send(message)
        except (OSError, TimeoutError) as error:
            raise ClientLeft from error


class IncomingMessages:
    """The messages of a WebSocket, received even while an earlier message is answered. If the client leaves, the
    ``async with`` block is cancelled.

    While ``max_waiting`` messages are queued, no more messages are read from the connection.
    """

    def __init__(self, socket: WebSocket, max_waiting: int) -> None:
        self._socket = socket
        self._messages: asyncio.Queue[str | bytes] = asyncio.Queue(max_waiting)
        self._has_left = False

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._reader = asyncio.create_task(self._read(), name="read a WebSocket")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._reader.cancel()
        await asyncio.wait([self._reader])
        if self._has_left and isinstance(error, asyncio.CancelledError):
            self._task.uncancel()
            return True
        return False

    async def get(self) -> str | bytes:
        """Return the next message. After handling it, pass it to `WebSocket.release`."""
        return await self._messages.get()

    def leave(self) -> None:
        """Handle that the client has left, which may be detected while sending: cancel the block."""
        if not self._has_left:
            self._has_left = True
            self._task.cancel()

    async def _read(self) -> None:
        try:
            while True:
                await self._messages.put(await self._socket.receive())
        except ClientLeft:
            self.leave()


async def read_message(message: str | bytes) -> dict[str, Any]:
    """Parse a message as a JSON object, with the same limits as a request body. Raises `InvalidRequest`."""
    if isinstance(message, bytes):
        raise InvalidRequest("Send messages as text, not as bytes.", code="unsupported_content_type")
    value = await parse_in_turn(message.encode())
    if not isinstance(value, dict):
        raise InvalidRequest("A message must be a JSON object.", code="invalid_json")
    return value


def error_event(error: PorticoError) -> dict[str, Any]:
    """Return an error as a message in OpenAI's format."""
    error_body = error.body()
    document = {
        "type": error_body.type,
        "code": error_body.code or error_body.type,
        "message": error_body.message,
        "param": error_body.param,
    }
    return {"type": "error", "status": error.status, "error": document}
