"""One model on somebody's HTTP server: calls to it, and what their failures mean. Imports aiohttp."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import orjson

from portico_server.core.errors import PorticoError, retry_after_s
from portico_server.models.endpoint import Endpoint
from portico_server.models.openai_wire import error_of
from portico_server.models.transport import (
    CONNECTION_ERRORS,
    EngineRoute,
    EngineTransport,
    deadline_exceeded,
    read_all,
    read_frames,
    read_pieces,
)

Explain = Callable[[BaseException], Awaitable[PorticoError]]
"""Turns a broken connection into a sentence that says what happened to the engine."""


class Upstream:
    """``name`` is the model's here, ``model`` its name there. ``idle``: seconds of silence in the middle of an answer
    after which it counts as broken.
    """

    def __init__(
        self,
        transport: EngineTransport,
        endpoint: Endpoint,
        name: str,
        explain: Explain,
        *,
        idle: float | None = None,
    ) -> None:
        self.name = name
        self.model = endpoint.model
        self._transport = transport
        self._endpoint = endpoint
        self._broken = explain
        self._idle = idle

    def route(self, operation: str) -> EngineRoute:
        """The address of one operation."""
        return EngineRoute(self._endpoint, operation)

    async def post(
        self, route: EngineRoute, body: Mapping[str, Any] | aiohttp.FormData, deadline: float | None
    ) -> aiohttp.ClientResponse:
        """An answer with status 200, whose body is still to be read. Raises `PorticoError`."""
        sent = body if isinstance(body, aiohttp.FormData) else orjson.dumps(body)
        try:
            response = await self._transport.post(route, sent, deadline=deadline)
            if response.status == 200:
                return response
            data = await read_all(response, deadline=deadline, idle=self._idle)
        except CONNECTION_ERRORS as error:
            raise await self.explain(error) from error
        raise error_of(response.status, data, self.name, retry_after_s(response.headers.get("Retry-After")))

    async def whole(self, response: aiohttp.ClientResponse, deadline: float | None) -> bytes:
        """The body of an answer. Raises `PorticoError`."""
        try:
            return await read_all(response, deadline=deadline, idle=self._idle)
        except CONNECTION_ERRORS as error:
            raise await self.explain(error) from error

    def frames(self, response: aiohttp.ClientResponse, deadline: float | None) -> AsyncIterator[bytes]:
        """The frames of a streamed answer; raises `CONNECTION_ERRORS`, which `explain` explains."""
        return read_frames(response, deadline=deadline, idle=self._idle)

    def pieces(self, response: aiohttp.ClientResponse, deadline: float | None) -> AsyncIterator[bytes]:
        """The bytes of an answer as they come; raises `CONNECTION_ERRORS`, which `explain` explains."""
        return read_pieces(response, deadline=deadline, idle=self._idle)

    async def explain(self, error: BaseException) -> PorticoError:
        """What a broken connection means."""
        # aiohttp's own time-outs are subclasses: only the deadline is the plain one.
        return deadline_exceeded(self.name) if type(error) is TimeoutError else await self._broken(error)
