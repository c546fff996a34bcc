"""One WebSocket on raw ASGI: JSON in, JSON out, with an end to every wait."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import orjson

from portico_server.api.exchange import ClientLeft, Exchange, Message, Receive, Send, parse
from portico_server.core.errors import InvalidRequest

MAX_SEND_STALL_S: Final = 120.0
"""Seconds in which a client must take what is sent to it."""

NORMAL_CLOSE_CODE: Final = 1000
POLICY_CLOSE_CODE: Final = 1008
FAILURE_CLOSE_CODE: Final = 1011


class WebSocket:
    """``exchange`` is the request that asked for it: its caller, its id, and its answer until `accept`."""

    def __init__(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        self.exchange = exchange
        self.accepted = False
        self._receive = receive
        self._send = send

    async def accept(self) -> None:
        """Complete the handshake."""
        await self._receive()  # websocket.connect
        self.accepted = True
        self.exchange.started = True
        await self._put({"type": "websocket.accept", "headers": self.exchange.extra})

    async def receive(self) -> str | bytes:
        """The next message. Raises `ClientLeft`."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            raise ClientLeft
        text: str | None = message.get("text")
        return message["bytes"] if text is None else text

    async def send(self, document: Mapping[str, Any]) -> None:
        """A message of JSON. Raises `ClientLeft` if the client has gone, or takes nothing."""
        await self._put({"type": "websocket.send", "text": orjson.dumps(document).decode()})

    async def close(self, code: int = NORMAL_CLOSE_CODE, reason: str = "") -> None:
        """Say goodbye."""
        await self._put({"type": "websocket.close", "code": code, "reason": reason})

    async def _put(self, message: Message) -> None:
        try:
            async with asyncio.timeout(MAX_SEND_STALL_S):
                await self._send(message)
        except (OSError, TimeoutError) as error:
            raise ClientLeft from error


def read_message(message: str | bytes) -> dict[str, Any]:
    """A message as a JSON object, within the bounds of a body. Raises `InvalidRequest`."""
    if isinstance(message, bytes):
        raise InvalidRequest("Send messages as text, not as bytes.", code="unsupported_content_type")
    value = parse(message.encode())
    if not isinstance(value, dict):
        raise InvalidRequest("A message must be a JSON object.", code="invalid_json")
    return value
