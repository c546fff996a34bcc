"""Speaks to Anthropic's Messages API as if it were OpenAI's chat. Imports aiohttp."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import orjson

from portico.wire import Usage
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError
from portico_server.core.relay import OriginalRequest, Relay, RelayResponse
from portico_server.models.answers import close_chunks, single_chunk
from portico_server.models.engines.remote.anthropic_messages import (
    DEFAULT_MAX_TOKENS,
    CompletionStream,
    completion_of,
    error_of_event,
    request_of,
    usage_of,
)
from portico_server.models.openai_wire import frame
from portico_server.models.transport import CONNECTION_ERRORS
from portico_server.models.upstream import Upstream

# A request that came in Anthropic's own words, and the answer to it: passed on as they are, and counted. Pure.


BETA_HEADER = "anthropic-beta"


def body_of(original: OriginalRequest, model: str) -> dict[str, Any]:
    """The request under the model's name at the provider."""
    return {**original.body, "model": model}


def headers_of(original: OriginalRequest, ours: Mapping[str, str]) -> dict[str, str]:
    """The headers of a call: ``ours``, and what the caller's said of the form of the request. Betas of both hold."""
    headers = {**ours, **original.headers}
    configured = next((value for name, value in ours.items() if name.lower() == BETA_HEADER), "")
    requested = original.headers.get(BETA_HEADER, "")
    if configured and requested:
        headers = {name: value for name, value in headers.items() if name.lower() != BETA_HEADER}
        headers[BETA_HEADER] = f"{configured},{requested}"
    return headers


class AnthropicUsage:
    """Looks on at a stream that is passed through: its counts, its end, and the error that it may tell."""

    def __init__(self, name: str) -> None:
        self.ended = False
        """Whether the message came to its end."""
        self._name = name
        self._counts: dict[str, Any] = {}

    @property
    def usage(self) -> Usage:
        """What has been counted so far."""
        return usage_of(self._counts)

    def read(self, frames: bytes) -> tuple[bytes, PorticoError | None]:
        """The frames up to the first that is an error, and that error."""
        if b'"usage"' not in frames and b"message_stop" not in frames and b"error" not in frames:
            return frames, None
        start = 0
        for part in frames.split(b"\n\n"):
            for line in part.split(b"\n"):
                if line.startswith(b"data:") and (error := self._event(line[5:])) is not None:
                    return frames[:start], error
            start += len(part) + 2
        return frames, None

    def _event(self, data: bytes) -> PorticoError | None:
        event: Any = None
        with contextlib.suppress(orjson.JSONDecodeError):  # whoever reads it will say so
            event = orjson.loads(data)
        if not isinstance(event, dict):
            return None
        match event.get("type"):
            case "message_start":
                self._counts |= (event.get("message") or {}).get("usage") or {}
            case "message_delta":
                # Counts are totals; what is null there is what it was.
                counted = event.get("usage") or {}
                self._counts |= {key: value for key, value in counted.items() if value is not None}
            case "message_stop":
                self.ended = True
            case "error":
                return error_of_event(event, self._name)
        return None


class AnthropicClient:
    """A `EngineClient` for chats. ``max_tokens`` holds for callers who set no limit."""

    def __init__(self, upstream: Upstream, *, max_tokens: int = DEFAULT_MAX_TOKENS) -> None:
        self._upstream = upstream
        self._name = upstream.name
        self._max_tokens = max_tokens
        self._route = upstream.route("messages")

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.models.protocol.EngineClient`."""
        if request.operation != "chat/completions":
            raise InvalidRequest(
                f"The provider of '{self._name}' does chats; it does not do {request.operation}.",
                code="model_lacks_capability",
                param="model",
            )
        if request.original is not None and request.original.protocol == "anthropic":
            return await self._original(request.original, deadline)
        body = request_of(request.body, self._upstream.model, self._max_tokens)
        response = await self._upstream.post(self._route, body, deadline)
        if not request.stream:
            return self._whole(await self._upstream.whole(response, deadline))
        options = request.body.get("stream_options")
        wants_usage = isinstance(options, dict) and options.get("include_usage") is True
        return await self._stream(response, deadline, CompletionStream(self._name, wants_usage=wants_usage))

    async def _original(self, original: OriginalRequest, deadline: float | None) -> RelayResponse:
        """A request in the provider's own words: nothing of it is lost, and nothing of its answer."""
        route = self._upstream.route("messages")
        route.headers = headers_of(original, route.headers)
        response = await self._upstream.post(route, body_of(original, self._upstream.model), deadline)
        if original.body.get("stream") is True:
            relayed = await self._stream(response, deadline, AnthropicUsage(self._name))
        else:
            data = await self._upstream.whole(response, deadline)
            relayed = RelayResponse(
                "application/json", single_chunk(data), usage_of(self._message(data).get("usage"))
            )
        relayed.protocol = "anthropic"
        return relayed

    def _message(self, data: bytes) -> dict[str, Any]:
        """A whole answer. Raises `PorticoError` if it is none."""
        try:
            message = orjson.loads(data)
        except orjson.JSONDecodeError:
            message = None
        if not isinstance(message, dict):
            raise EngineFailed(f"The provider of '{self._name}' answered something that is not JSON.")
        if message.get("type") == "error":
            raise error_of_event(message, self._name)
        return message

    def _whole(self, data: bytes) -> RelayResponse:
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
                    raise EngineFailed(f"The provider of '{self._name}' ended the stream before it began.")
                first, error = stream.read(data)
                if error is not None and not first:
                    raise error
        except CONNECTION_ERRORS as broken:
            await close_chunks(frames)
            raise await self._upstream.explain(broken) from broken
        except BaseException:
            await close_chunks(frames)
            raise
        relayed = RelayResponse("text/event-stream", frames, stream.usage)
        relayed.chunks = self._pass(first, error, frames, stream, relayed)
        return relayed

    async def _pass(
        self,
        chunks: bytes,
        error: PorticoError | None,
        frames: AsyncIterator[bytes],
        stream: CompletionStream | AnthropicUsage,
        relayed: RelayResponse,
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
            ours = await self._upstream.explain(broken)
            if isinstance(stream, CompletionStream):
                yield frame(ours)
            raise ours from broken
        except PorticoError as failed:
            if isinstance(stream, CompletionStream):
                yield frame(failed)
            raise
        finally:
            await close_chunks(frames)
