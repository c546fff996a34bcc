"""The hot path: relays requests to servers with OpenAI's API, including media. Regular answers pass through byte by
byte. Imports aiohttp.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import aiohttp
import orjson

from portico.wire import Usage
from portico_server.core.errors import EngineFailed, PorticoError
from portico_server.core.relay import Relay, RelayResponse, single_chunk
from portico_server.models.answers import close_chunks
from portico_server.models.engines.openai_client.media import MEDIA_OPERATIONS, forward_media
from portico_server.models.engines.openai_client.upstream_answers import (
    AnswerForm,
    UpstreamStream,
    read_answer,
    stream_of,
)
from portico_server.models.engines.openai_client.upstream_fields import BOM
from portico_server.models.openai_wire import error_in, frame
from portico_server.models.token_usage import usage_in
from portico_server.models.transport import CONNECTION_ERRORS, Upstream

TEXT_OPERATIONS = ("chat/completions", "completions", "embeddings", "rerank", "moderations")


class Passthrough:
    """An `EngineClient` that changes the model's name in the request, and in the response only what OpenAI does not
    document.

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
        if not request.operation.endswith("completions"):
            return await self._document(response, deadline)
        form = AnswerForm(
            self._name,
            chat=request.operation == "chat/completions",
            wants_usage=wants_usage,
            legacy_calls=bool(body.get("functions")),
        )
        if streams:
            return await self._stream(response, deadline, form)
        data, usage = read_answer(await self._upstream.read_whole(response, deadline), form)
        return RelayResponse("application/json", single_chunk(data), usage)

    async def _document(self, response: aiohttp.ClientResponse, deadline: float | None) -> RelayResponse:
        data = await self._upstream.read_whole(response, deadline)
        if not data.lstrip().startswith(b"{"):
            raise EngineFailed(f"The engine of '{self._name}' returned something other than a JSON object.")
        if b'"data"' not in data and b'"results"' not in data:
            # Certain providers report an error with status 200 and the error in the body.
            with contextlib.suppress(orjson.JSONDecodeError):
                if (error := error_in(orjson.loads(data), self._name)) is not None:
                    raise error
            raise EngineFailed(f"The engine of '{self._name}' returned something other than JSON.")
        return RelayResponse("application/json", single_chunk(data), usage_in(data) or Usage())

    async def _stream(
        self, response: aiohttp.ClientResponse, deadline: float | None, form: AnswerForm
    ) -> RelayResponse:
        frames = self._upstream.frames(response, deadline)
        stream = UpstreamStream(form)
        try:
            data = (await anext(frames, b"")).removeprefix(BOM)
            if data.lstrip().startswith((b"{", b"[", b"<")):
                data += b"".join([part async for part in frames])
                with contextlib.suppress(ValueError):
                    orjson.loads(data)
                    data, stream.usage = stream_of(data, form)
            first = stream.read(data)
            while data and not first and stream.failure is None and not stream.is_done:
                data = await anext(frames, b"")
                first = stream.read(data) if data else b""
            first = first or stream.end()
            if stream.failure is not None and not first:
                raise stream.failure
        except CONNECTION_ERRORS as error:
            raise await self._upstream.explain(error) from error
        except BaseException:
            await close_chunks(frames)
            raise
        relay_response = RelayResponse("text/event-stream", frames, stream.usage)
        relay_response.chunks = self._pass(first, frames, stream, relay_response)
        return relay_response

    async def _pass(
        self, data: bytes, frames: AsyncIterator[bytes], stream: UpstreamStream, relay_response: RelayResponse
    ) -> AsyncIterator[bytes]:
        read_more = frames.__anext__
        try:
            while True:
                if data:
                    yield data
                if stream.failure is not None:
                    raise stream.failure
                try:
                    data = stream.read(await read_more())
                except StopAsyncIteration:
                    break
                finally:
                    relay_response.usage = stream.usage
            if ending := stream.end():
                yield ending
            if stream.failure is not None:
                raise stream.failure
        except CONNECTION_ERRORS as broken:
            if stream.is_done:
                return
            error = await self._upstream.explain(broken)
            yield frame(error)
            raise error from broken
        except PorticoError as error:
            yield frame(error)
            raise
        finally:
            await close_chunks(frames)
