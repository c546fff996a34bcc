"""The hot path: relays requests to servers that follow OpenAI's API closely, byte by byte, including media. Imports
aiohttp.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator

import aiohttp
import orjson

from portico.wire import Usage
from portico_server.core.errors import EngineFailed, PorticoError
from portico_server.core.relay import Relay, RelayResponse, single_chunk
from portico_server.models.answers import close_chunks
from portico_server.models.engines.openai_client.media import MEDIA_OPERATIONS, forward_media
from portico_server.models.openai_wire import error_in, frame
from portico_server.models.token_usage import usage_in
from portico_server.models.transport import CONNECTION_ERRORS, Upstream

TEXT_OPERATIONS = ("chat/completions", "completions", "embeddings", "rerank", "moderations")

DONE = b"data: [DONE]\n\n"

# These patterns cannot occur inside a JSON string, because the quotes in it would be escaped.
_CREATED = re.compile(rb'"created"\s*:\s*\d+')
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
"""Prefixes of the lines of an event stream."""

_FINISH = re.compile(rb'"finish_reason"\s*:\s*"')


class Passthrough:
    """An `EngineClient` that changes the model's name in the request, and almost nothing in the response.

    ``ask_usage`` means that the token counts of a stream are requested for Portico's usage records even if the client
    did not request them. If an engine rejects this field, it is not sent to the engine again.
    """

    def __init__(self, upstream: Upstream, *, request_usage: bool = True) -> None:
        self._upstream = upstream
        self._name = upstream.name
        self._request_usage = request_usage
        self._routes = {operation: upstream.route(operation) for operation in TEXT_OPERATIONS}

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.models.protocol.EngineClient`."""
        model = self._upstream.model if request.adapter is None else request.adapter.name
        body = {**request.body, "model": model}
        if request.operation in MEDIA_OPERATIONS:
            return await forward_media(self._upstream, request, body, deadline)
        streams = request.stream and request.operation.endswith("completions")
        options = body.get("stream_options")
        wants_usage = isinstance(options, dict) and options.get("include_usage") is True
        asks = streams and not wants_usage and self._request_usage
        if asks:
            body["stream_options"] = {**(options or {}), "include_usage": True}
        try:
            response = await self._upstream.post(self._routes[request.operation], body, deadline)
        except PorticoError as error:
            if not asks or error.status not in (400, 422) or "stream_options" not in error.message:
                raise
            self._request_usage = False
            return await self.relay(request, deadline)
        if not streams:
            return await self._document(response, deadline)
        return await self._stream(response, deadline, wants_usage)

    async def _document(self, response: aiohttp.ClientResponse, deadline: float | None) -> RelayResponse:
        data = await self._upstream.read_whole(response, deadline)
        if not data.lstrip().startswith(b"{"):
            raise EngineFailed(f"The engine of '{self._name}' returned something other than a JSON object.")
        if b'"choices"' not in data and b'"data"' not in data and b'"results"' not in data:
            # Certain providers report an error with status 200 and the error in the body.
            with contextlib.suppress(orjson.JSONDecodeError):
                raise error_in(orjson.loads(data), self._name)
            raise EngineFailed(f"The engine of '{self._name}' returned something other than JSON.")
        return RelayResponse("application/json", single_chunk(data), usage_in(data) or Usage())

    async def _stream(
        self, response: aiohttp.ClientResponse, deadline: float | None, wants_usage: bool
    ) -> RelayResponse:
        frames = self._upstream.frames(response, deadline)
        try:
            first = await anext(frames, b"")
            while first.startswith(b":") and _without_comments(first) == b"":
                first = await anext(frames, b"")
            before, error = self._until_error(first)
            if error is not None and not before:
                raise error
            if not first:
                raise EngineFailed(f"The engine of '{self._name}' closed the stream before its first event.")
            if not first.lstrip().startswith(_FIELDS):
                raise EngineFailed(f"The engine of '{self._name}' returned something other than a stream.")
        except CONNECTION_ERRORS as error:
            raise await self._upstream.explain(error) from error
        except BaseException:
            await close_chunks(frames)
            raise
        relay_response = RelayResponse("text/event-stream", frames)
        relay_response.chunks = self._pass(first, frames, relay_response, wants_usage)
        return relay_response

    async def _pass(
        self, data: bytes, frames: AsyncIterator[bytes], relay_response: RelayResponse, wants_usage: bool
    ) -> AsyncIterator[bytes]:
        created_field = b""
        has_finished = False
        read_more = frames.__anext__
        try:
            while True:
                if not (created_field and _ordinary(data, created_field)):
                    has_finished = has_finished or b"[DONE]" in data or _FINISH.search(data) is not None
                    if b'"usage"' in data and (usage := usage_in(data)) is not None:
                        relay_response.usage = usage
                    if _NO_CHOICES.search(data) is not None:
                        data = _with_choices(data, wants_usage)
                    data, failure = self._until_error(data)
                    created_field = created_field or _first_created(data)
                    if created_field and data.count(created_field) != data.count(b'"created"'):
                        data = _CREATED.sub(created_field, data)
                    if failure is not None:
                        if data:
                            yield data
                        raise failure
                if data:
                    yield data
                has_done = data.endswith(DONE)
                try:
                    data = await read_more()
                except StopAsyncIteration:
                    break
            if not has_done:
                if not has_finished:
                    raise EngineFailed(f"The engine of '{self._name}' stopped in the middle of its answer.")
                yield DONE
        except CONNECTION_ERRORS as broken:
            error = await self._upstream.explain(broken)
            yield frame(error)
            raise error from broken
        except PorticoError as error:
            yield frame(error)
            raise
        finally:
            await close_chunks(frames)

    def _until_error(self, data: bytes) -> tuple[bytes, PorticoError | None]:
        """Return the frames before the first frame with an error, and this error. If no frame contains an error,
        return all frames.
        """
        if b'"error"' not in data:
            return data, None
        start = 0
        for part in data.split(b"\n\n"):
            text = part.rpartition(b"data:")[2].strip() if b'"error"' in part else b""
            with contextlib.suppress(orjson.JSONDecodeError):
                document = orjson.loads(text) if text else None
                if isinstance(document, dict) and document.get("error"):
                    return data[:start], error_in(document, self._name)
            start += len(part) + 2
        return data, None


def _ordinary(data: bytes, created_field: bytes) -> bool:
    """Return whether frames can be passed on unchanged: each frame only continues a choice and has the same creation
    time.

    This check runs for every token, so it counts the patterns that engines usually write. Frames that do not match are
    parsed.
    """
    count = data.count(created_field)
    return (
        0 < count == data.count(b'"choices":[{') == data.count(b'"finish_reason":null')
        and data.find(b'"usage"') < 0
        and data.find(b'"error"') < 0
    )


def _first_created(data: bytes) -> bytes:
    match = _CREATED.search(data)
    return match.group() if match is not None else b""


def _with_choices(data: bytes, wants_usage: bool) -> bytes:
    """Return only the frames that contain choices, because clients access ``choices[0]``.

    A frame with only the usage is kept if the client requested the usage.
    """
    kept_frames = [
        frame
        for frame in data.split(b"\n\n")
        if frame and (_NO_CHOICES.search(frame) is None or (wants_usage and usage_in(frame) is not None))
    ]
    return b"".join(frame + b"\n\n" for frame in kept_frames)


def _without_comments(data: bytes) -> bytes:
    return b"".join(frame for frame in data.split(b"\n\n") if frame and not frame.startswith(b":"))
