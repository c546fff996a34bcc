"""Speaks to Anthropic's Messages API as if it were OpenAI's chat. Imports aiohttp."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import orjson

from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError
from portico_server.core.request import Relay, Relayed
from portico_server.engines.answer import close, once
from portico_server.engines.endpoint import Endpoint
from portico_server.engines.passthrough import Explain
from portico_server.engines.refusal import error_of, frame, retry_after
from portico_server.engines.remote.anthropic.answer import Stream, completion_of, error_of_event, usage_of
from portico_server.engines.remote.anthropic.ask import MAX_TOKENS, request_of
from portico_server.engines.transport import (
    CONNECTION_ERRORS,
    Route,
    Transport,
    late,
    read_all,
    read_frames,
)


class Messages:
    """A `Speaker` for chats. ``max_tokens`` holds for callers who set no limit; ``idle`` in seconds."""

    def __init__(
        self,
        transport: Transport,
        endpoint: Endpoint,
        name: str,
        explain: Explain,
        *,
        max_tokens: int = MAX_TOKENS,
        idle: float | None = None,
    ) -> None:
        self._transport = transport
        self._model = endpoint.model
        self._name = name
        self._broken = explain
        self._max_tokens = max_tokens
        self._idle = idle
        self._route = Route(endpoint, "messages")

    async def relay(self, request: Relay, deadline: float | None) -> Relayed:
        """See `portico_server.engines.protocol.Speaker`."""
        if request.operation != "chat/completions":
            raise InvalidRequest(
                f"The provider of '{self._name}' does chats; it does not do {request.operation}.",
                code="model_lacks_capability",
                param="model",
            )
        body = request_of(request.body, self._model, self._max_tokens)
        try:
            response = await self._transport.post(self._route, orjson.dumps(body), deadline=deadline)
            if response.status != 200:
                data = await read_all(response, deadline=deadline)
                raise error_of(response.status, data, self._name, retry_after(response.headers))
            if request.stream:
                options = request.body.get("stream_options")
                wants_usage = isinstance(options, dict) and options.get("include_usage") is True
                return await self._stream(response, deadline, wants_usage)
            return self._whole(await read_all(response, deadline=deadline))
        except CONNECTION_ERRORS as error:
            raise await self._explain(error) from error

    def _whole(self, data: bytes) -> Relayed:
        try:
            message = orjson.loads(data)
        except orjson.JSONDecodeError:
            message = None
        if not isinstance(message, dict):
            raise EngineFailed(f"The provider of '{self._name}' answered something that is not JSON.")
        if message.get("type") == "error":
            raise error_of_event(message, self._name)
        usage = usage_of(message.get("usage"))
        return Relayed("application/json", once(orjson.dumps(completion_of(message, usage))), usage)

    async def _stream(
        self, response: aiohttp.ClientResponse, deadline: float | None, wants_usage: bool
    ) -> Relayed:
        frames = read_frames(response, deadline=deadline, idle=self._idle)
        stream = Stream(self._name, wants_usage=wants_usage)
        first, error = b"", None
        try:
            while not first:
                data = await anext(frames, b"")
                if not data:
                    raise EngineFailed(f"The provider of '{self._name}' ended the stream before it began.")
                first, error = stream.read(data)
                if error is not None and not first:
                    raise error
        except BaseException:
            await close(frames)
            raise
        relayed = Relayed("text/event-stream", frames, stream.usage)
        relayed.chunks = self._pass(first, error, frames, stream, relayed)
        return relayed

    async def _pass(
        self,
        chunks: bytes,
        error: PorticoError | None,
        frames: AsyncIterator[bytes],
        stream: Stream,
        relayed: Relayed,
    ) -> AsyncIterator[bytes]:
        try:
            while True:
                relayed.usage = stream.usage
                if chunks:
                    yield chunks
                if error is not None:
                    raise error
                data = await anext(frames, b"")
                if not data:
                    break
                chunks, error = stream.read(data)
            if not stream.ended:
                raise EngineFailed(f"The provider of '{self._name}' broke off in the middle of its answer.")
        except CONNECTION_ERRORS as broken:
            ours = await self._explain(broken)
            yield frame(ours)
            raise ours from broken
        except PorticoError as failed:
            yield frame(failed)
            raise
        finally:
            await close(frames)

    async def _explain(self, error: BaseException) -> PorticoError:
        return late(self._name) if type(error) is TimeoutError else await self._broken(error)
