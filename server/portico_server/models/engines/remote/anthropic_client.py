"""A client that presents Anthropic's Messages API as OpenAI's chat API. Imports aiohttp."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson

from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError
from portico_server.core.relay import OriginalRequest, Relay, RelayResponse, single_chunk
from portico_server.models.answers import close_chunks
from portico_server.models.engines.remote.anthropic_answers import (
    CompletionStream,
    completion_of,
    error_of_event,
    usage_of,
)
from portico_server.models.engines.remote.anthropic_messages import DEFAULT_MAX_TOKENS, request_of
from portico_server.models.engines.remote.anthropic_relay import AnthropicUsage, body_of, headers_of
from portico_server.models.openai_wire import frame
from portico_server.models.transport import CONNECTION_ERRORS, Upstream


class AnthropicClient:
    """An `EngineClient` for chats. ``max_tokens`` applies to callers that set no limit."""

    def __init__(self, upstream: Upstream, *, max_tokens: int = DEFAULT_MAX_TOKENS) -> None:
        self._upstream = upstream
        self._name = upstream.name
        self._max_tokens = max_tokens
        self._route = upstream.route("messages")

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.models.protocol.EngineClient`."""
        if request.operation != "chat/completions":
            raise InvalidRequest(
                f"The provider of '{self._name}' supports only chats, not {request.operation}.",
                code="model_lacks_capability",
                param="model",
            )
        if request.original is not None and request.original.protocol == "anthropic":
            return await self._original(request.original, deadline)
        body = request_of(request.body, self._upstream.model, self._max_tokens)
        response = await self._upstream.post(self._route, body, deadline)
        if not request.stream:
            return self._to_response(await self._upstream.read_whole(response, deadline))
        options = request.body.get("stream_options")
        wants_usage = isinstance(options, dict) and options.get("include_usage") is True
        return await self._stream(response, deadline, CompletionStream(self._name, wants_usage=wants_usage))

    async def _original(self, original: OriginalRequest, deadline: float | None) -> RelayResponse:
        """Forward a request in the provider's own format, so that neither the request nor the answer loses anything."""
        route = self._upstream.route("messages")
        route.headers = headers_of(original, route.headers)
        response = await self._upstream.post(route, body_of(original, self._upstream.model), deadline)
        if original.body.get("stream") is True:
            relay_response = await self._stream(response, deadline, AnthropicUsage(self._name))
        else:
            data = await self._upstream.read_whole(response, deadline)
            relay_response = RelayResponse(
                "application/json", single_chunk(data), usage_of(self._message(data).get("usage"))
            )
        relay_response.protocol = "anthropic"
        return relay_response

    def _message(self, data: bytes) -> dict[str, Any]:
        """Parse a complete answer. Raise `PorticoError` if ``data`` is not a message."""
        try:
            message = orjson.loads(data)
        except orjson.JSONDecodeError:
            message = None
        if not isinstance(message, dict):
            raise EngineFailed(f"The provider of '{self._name}' returned something other than JSON.")
        if message.get("type") == "error":
            raise error_of_event(message, self._name)
        return message

    def _to_response(self, data: bytes) -> RelayResponse:
        message = self._message(data)
        usage = usage_of(message.get("usage"))
        return RelayResponse(
            "application/json", single_chunk(orjson.dumps(completion_of(message, usage))), usage
        )

    async def _stream(
        self,
        response: aiohttp.ClientResponse,
        deadline: float | None,
        stream: CompletionStream | AnthropicUsage,
    ) -> RelayResponse:
        frames = self._upstream.frames(response, deadline)
        first, error = b"", None
        try:
            while not first:
                data = await anext(frames, b"")
                if not data:
                    raise EngineFailed(
                        f"The provider of '{self._name}' closed the stream before its first event."
                    )
                first, error = stream.read(data)
                if error is not None and not first:
                    raise error
        except CONNECTION_ERRORS as broken:
            await close_chunks(frames)
            raise await self._upstream.explain(broken) from broken
        except BaseException:
            await close_chunks(frames)
            raise
        relay_response = RelayResponse("text/event-stream", frames, stream.usage)
        relay_response.chunks = self._pass(first, error, frames, stream, relay_response)
        return relay_response

    async def _pass(
        self,
        chunks: bytes,
        error: PorticoError | None,
        frames: AsyncIterator[bytes],
        stream: CompletionStream | AnthropicUsage,
        relay_response: RelayResponse,
    ) -> AsyncIterator[bytes]:
        try:
            while True:
                relay_response.usage = stream.usage
                if chunks:
                    yield chunks
                if error is not None:
                    raise error
                data = await anext(frames, b"")
                if not data:
                    break
                chunks, error = stream.read(data)
            if not stream.ended:
                raise EngineFailed(f"The provider of '{self._name}' stopped in the middle of its answer.")
        except CONNECTION_ERRORS as broken:
            portico_error = await self._upstream.explain(broken)
            if isinstance(stream, CompletionStream):
                yield frame(portico_error)
            raise portico_error from broken
        except PorticoError as stream_error:
            if isinstance(stream, CompletionStream):
                yield frame(stream_error)
            raise
        finally:
            await close_chunks(frames)
