"""``/v1/responses`` over a WebSocket: one response after another on one connection.

Source: https://developers.openai.com/api/docs/guides/websocket-mode and https://www.openresponses.org (2026-04-24).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import orjson

from portico_server.api import errors
from portico_server.api.exchange import ClientLeft
from portico_server.api.openai.relay import caller_of
from portico_server.api.services import ApiServices
from portico_server.api.socket import IncomingMessages, WebSocket, error_event, read_message
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type
from portico_server.features.responses.api.own_endpoint import with_own_paths
from portico_server.features.responses.api.service import ResponseService
from portico_server.features.responses.items import Item
from portico_server.features.responses.responder import Responder
from portico_server.settings import Settings

MAX_SOCKET_S: Final = 3600.0
"""Seconds after which a connection accepts no further requests, as in OpenAI's API."""

MAX_WAITING_MESSAGES: Final = 8
"""Maximum number of queued messages. At this limit, no more messages are read from the connection."""

CREATE: Final = "response.create"


async def serve(socket: WebSocket, services: ApiServices) -> None:
    """Answer a client's messages in order until the client leaves, is idle for too long, or the connection has lasted
    an hour.
    """
    await socket.accept()
    async with IncomingMessages(socket, MAX_WAITING_MESSAGES) as incoming:
        service: ResponseService = await services.features.load("responses")
        await _Turns(socket, service.responder, services.settings).answer(incoming)


class _Turns:
    """The memory of a connection: its last response, if that response is not stored, with all earlier items of its
    conversation.
    """

    def __init__(self, socket: WebSocket, responder: Responder, settings: Settings) -> None:
        self._socket = socket
        self._responder = responder
        self._caller = caller_of(socket.exchange)
        self._settings = settings
        self._items_by_response: dict[str, Sequence[Item]] = {}
        self._remembered_bytes = 0

    async def answer(self, incoming: IncomingMessages) -> None:
        """Answer messages one after another until the connection must be closed."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + MAX_SOCKET_S
        while loop.time() < ends_at:
            try:
                async with asyncio.timeout(self._settings.socket_idle_timeout):
                    message = await incoming.get()
            except TimeoutError:
                await self._socket.close(reason=f"idle for {self._settings.socket_idle_timeout:g} s")
                return
            try:
                await self._turn(message)
            finally:
                self._socket.release(message)
                del (
                    message
                )  # the message would otherwise stay in memory, uncounted, until the next message arrives
        over = InvalidRequest(
            f"A connection lasts for {MAX_SOCKET_S / 60:g} minutes. Open a new connection to continue.",
            code="websocket_connection_limit_reached",
        )
        await self._fail(over, {})
        await self._socket.close()

    async def _turn(self, message: str | bytes) -> None:
        lane: dict[str, Any] = {}
        previous: Any = None
        try:
            body = await read_message(message)
            kind = body.pop("type", None)
            if kind is None:
                missing("type")
            if kind != CREATE:
                not_one_of("type", kind, [CREATE])
            previous = body.get("previous_response_id")
            stream_id = body.pop("stream_id", None)
            if stream_id is not None:
                if not isinstance(stream_id, str):
                    wrong_type("stream_id", "a string", stream_id)
                lane = {"stream_id": stream_id}
            if not await self._answer(body, lane, len(message)):
                self._forget(previous)
        except ClientLeft:
            raise
        except Exception as error:  # noqa: BLE001  # the connection outlives it: it is logged and reported
            self._forget(previous)
            await self._fail(errors.to_portico_error(error, self._socket.exchange.id), lane)

    def _forget(self, previous: Any) -> None:
        """Forget the response that a failed request continued, so that it cannot be continued again on this
        connection.
        """
        if isinstance(previous, str) and self._items_by_response.pop(previous, None) is not None:
            self._socket.keep(0)

    def _remember(self, response_id: str, before: Sequence[Item], output: Sequence[Item], size: int) -> None:
        """Remember a response's output and the items before it, ``size`` bytes in total, if the key may use that much
        memory.
        """
        self._items_by_response, self._remembered_bytes = {}, size
        if self._socket.keep(size):
            self._items_by_response = {response_id: [*before, *output]}

    async def _answer(self, body: dict[str, Any], lane: dict[str, Any], size: int) -> bool:
        """Answer a message of ``size`` bytes with a response. Return whether the response was completed."""
        generates = body.pop("generate", None)
        if generates is not None and not isinstance(generates, bool):
            wrong_type("generate", "true or false", generates)
        if body.pop("background", None):
            wrong("background", "is not supported over a WebSocket; send the request over HTTP")
        body["stream"] = True
        body = with_own_paths(body, self._socket.exchange, self._settings)
        continues = body.get("previous_response_id") in self._items_by_response
        response = await self._responder.prepare(body, self._caller, self._items_by_response)
        if generates is False:
            batches = self._responder.prime(response, self._caller)
        else:
            batches = self._responder.stream(response, self._caller, lambda: False)
        is_completed = True
        try:
            async for batch in batches:
                for event in batch:
                    if event["type"] == "error":
                        is_completed = False
                        event = {**event, "status": PorticoError.status}
                    await self._socket.send({**event, **lane})
        finally:
            await batches.aclose()
        if is_completed and not response.ask.store:
            document = response.machine.document()
            size = self._remembered_bytes + size if continues else len(orjson.dumps(response.before))
            size += len(orjson.dumps(document["output"]))
            self._remember(document["id"], response.before, document["output"], size)
        return is_completed

    async def _fail(self, error: PorticoError, lane: dict[str, Any]) -> None:
        await self._socket.send({**error_event(error), **lane})
