"""The hot path: a server that speaks OpenAI well, relayed byte by byte, with media. Imports aiohttp."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import aiohttp
import orjson

from portico.wire import Usage
from portico_server.core.errors import EngineFailed, PorticoError, Unavailable
from portico_server.core.media import Attachment
from portico_server.core.relay import AdapterScale, Operation, Relay, RelayResponse
from portico_server.models.answers import close_chunks, single_chunk
from portico_server.models.openai_wire import error_in, frame
from portico_server.models.protocol import EngineClient
from portico_server.models.token_usage import usage_in
from portico_server.models.transport import CONNECTION_ERRORS
from portico_server.models.upstream import Upstream

# Sounds and pictures on their way to and from a server that speaks OpenAI. Imports aiohttp.


MEDIA_OPERATIONS: tuple[Operation, ...] = (
    "audio/speech",
    "audio/transcriptions",
    "audio/translations",
    "images/generations",
    "images/edits",
)

_END = re.compile(rb'"type"\s*:\s*"[a-z._]+\.(?:done|completed)"|data: ?\[DONE\]|"finish_reason"\s*:\s*"')
"""What stands in the last events of a stream that is whole: OpenAI's own, or those of vLLM."""


async def forward_media(
    upstream: Upstream, request: Relay, body: dict[str, Any], deadline: float | None
) -> RelayResponse:
    """Pass on one of `MEDIA_OPERATIONS` with ``body``, and what comes back as it comes. Raises `PorticoError`."""
    route = upstream.route(request.operation)
    if request.files:
        response = await upstream.post(route, multipart_form(body, request.files), deadline)
    else:
        response = await upstream.post(route, body, deadline)
    media_type = response.headers.get("Content-Type", "application/octet-stream")
    if media_type.startswith("text/event-stream"):
        return await _events(upstream, response, deadline)
    if media_type.startswith(("application/json", "text/")):
        data = await upstream.whole(response, deadline)
        if media_type.startswith("application/json"):
            _check(data, upstream.name)
        return RelayResponse(media_type, single_chunk(data), usage_in(data) or Usage())
    return await _bytes(upstream, response, media_type, deadline)


def multipart_form(fields: Mapping[str, Any], files: tuple[Attachment, ...]) -> aiohttp.FormData:
    """A form as OpenAI's clients write it: lists as ``name[]``, once for each value, objects as ``name[key]``."""
    made = aiohttp.FormData(quote_fields=False)
    for name, value in fields.items():
        if isinstance(value, list | tuple):
            for item in value:
                made.add_field(f"{name}[]", _text(item))
        elif isinstance(value, Mapping):
            for key, item in value.items():
                made.add_field(f"{name}[{key}]", _text(item))
        elif value is not None:
            made.add_field(name, _text(value))
    counts = Counter(file.field for file in files)
    for file in files:
        field = f"{file.field}[]" if counts[file.field] > 1 else file.field
        made.add_field(field, io.BytesIO(file.data), filename=file.name, content_type=file.media_type)
    return made


def embed_files(request: Relay) -> Relay:
    """The files of a form as base64 in the JSON body, under ``files``: how our own workers take them."""
    if not request.files:
        return request
    files = [
        {
            "field": file.field,
            "name": file.name,
            "media_type": file.media_type,
            "data": base64.b64encode(file.data).decode(),
        }
        for file in request.files
    ]
    return replace(request, body={**request.body, "files": files}, files=())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _check(data: bytes, name: str) -> None:
    """Some providers answer 200 and tell the error in the body."""
    document = None
    with contextlib.suppress(orjson.JSONDecodeError):
        document = orjson.loads(data)
    if not isinstance(document, dict):
        raise EngineFailed(f"The engine of '{name}' answered something that is not a JSON object.")
    if document.get("error"):
        raise error_in(document, name)


async def _bytes(
    upstream: Upstream, response: aiohttp.ClientResponse, media_type: str, deadline: float | None
) -> RelayResponse:
    """What is neither text nor JSON; the first of it is here when this returns."""
    pieces = upstream.pieces(response, deadline)
    try:
        first = await anext(pieces, b"")
    except CONNECTION_ERRORS as error:
        raise await upstream.explain(error) from error
    except BaseException:
        await close_chunks(pieces)
        raise
    if not first:
        raise EngineFailed(f"The engine of '{upstream.name}' answered nothing.")

    async def relayed() -> AsyncIterator[bytes]:
        try:
            yield first
            async for piece in pieces:
                yield piece
        except CONNECTION_ERRORS as broken:
            raise await upstream.explain(broken) from broken
        finally:
            await close_chunks(pieces)

    return RelayResponse(media_type, relayed())


async def _events(
    upstream: Upstream, response: aiohttp.ClientResponse, deadline: float | None
) -> RelayResponse:
    frames = upstream.frames(response, deadline)
    try:
        first = await anext(frames, b"")
        _raise_if_error(first, upstream.name)
        if not first:
            raise EngineFailed(f"The engine of '{upstream.name}' ended the stream before it began.")
    except CONNECTION_ERRORS as error:
        raise await upstream.explain(error) from error
    except BaseException:
        await close_chunks(frames)
        raise
    relayed = RelayResponse("text/event-stream", frames)

    async def chunks() -> AsyncIterator[bytes]:
        try:
            data = first
            ended = False
            while data:
                _raise_if_error(data, upstream.name)
                relayed.usage = usage_in(data) or relayed.usage
                ended = _END.search(data) is not None
                yield data
                data = await anext(frames, b"")
            if not ended:
                raise EngineFailed(f"The engine of '{upstream.name}' broke off in the middle of its answer.")
        except CONNECTION_ERRORS as broken:
            error = await upstream.explain(broken)
            yield frame(error)
            raise error from broken
        except PorticoError as error:
            yield frame(error)
            raise
        finally:
            await close_chunks(frames)

    relayed.chunks = chunks()
    return relayed


def _raise_if_error(frames: bytes, name: str) -> None:
    if b'"error"' not in frames:
        return
    for one in frames.split(b"\n\n"):
        document = None
        with contextlib.suppress(orjson.JSONDecodeError):
            document = orjson.loads(one.rpartition(b"data:")[2])
        if isinstance(document, dict) and document.get("error"):
            raise error_in(document, name)


TEXT_OPERATIONS = ("chat/completions", "completions", "embeddings", "rerank", "moderations")

DONE = b"data: [DONE]\n\n"

# None of these can occur inside a JSON string, where the quotes would be escaped.
_CREATED = re.compile(rb'"created"\s*:\s*\d+')
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
"""What a line of an event stream begins with."""

_FINISH = re.compile(rb'"finish_reason"\s*:\s*"')


class Passthrough:
    """A `EngineClient` that changes the model's name on the way in and as good as nothing on the way out.

    ``ask_usage``: ask for the token counts of a stream even if the client did not, for the usage rows; an
    engine that refuses the question is not asked again.
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
        data = await self._upstream.whole(response, deadline)
        if not data.lstrip().startswith(b"{"):
            raise EngineFailed(f"The engine of '{self._name}' answered something that is not a JSON object.")
        if b'"choices"' not in data and b'"data"' not in data and b'"results"' not in data:
            # Some providers answer 200 and tell the error in the body.
            with contextlib.suppress(orjson.JSONDecodeError):
                raise error_in(orjson.loads(data), self._name)
            raise EngineFailed(f"The engine of '{self._name}' answered something that is not JSON.")
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
                raise EngineFailed(f"The engine of '{self._name}' ended the stream before it began.")
            if not first.lstrip().startswith(_FIELDS):
                raise EngineFailed(f"The engine of '{self._name}' answered something that is not a stream.")
        except CONNECTION_ERRORS as error:
            raise await self._upstream.explain(error) from error
        except BaseException:
            await close_chunks(frames)
            raise
        relayed = RelayResponse("text/event-stream", frames)
        relayed.chunks = self._pass(first, frames, relayed, wants_usage)
        return relayed

    async def _pass(
        self, data: bytes, frames: AsyncIterator[bytes], relayed: RelayResponse, wants_usage: bool
    ) -> AsyncIterator[bytes]:
        created = b""
        finished = False
        more = frames.__anext__
        try:
            while True:
                if not (created and _ordinary(data, created)):
                    finished = finished or b"[DONE]" in data or _FINISH.search(data) is not None
                    if b'"usage"' in data and (usage := usage_in(data)) is not None:
                        relayed.usage = usage
                    if _NO_CHOICES.search(data) is not None:
                        data = _with_choices(data, wants_usage)
                    data, failure = self._until_error(data)
                    created = created or _first_created(data)
                    if created and data.count(created) != data.count(b'"created"'):
                        data = _CREATED.sub(created, data)
                    if failure is not None:
                        if data:
                            yield data
                        raise failure
                if data:
                    yield data
                done = data.endswith(DONE)
                try:
                    data = await more()
                except StopAsyncIteration:
                    break
            if not done:
                if not finished:
                    raise EngineFailed(f"The engine of '{self._name}' broke off in the middle of its answer.")
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
        """The frames before one that is an error, and that error; all of them if there is none."""
        if b'"error"' not in data:
            return data, None
        start = 0
        for one in data.split(b"\n\n"):
            text = one.rpartition(b"data:")[2].strip() if b'"error"' in one else b""
            with contextlib.suppress(orjson.JSONDecodeError):
                document = orjson.loads(text) if text else None
                if isinstance(document, dict) and document.get("error"):
                    return data[:start], error_in(document, self._name)
            start += len(one) + 2
        return data, None


def _ordinary(data: bytes, created: bytes) -> bool:
    """Whether frames can be passed on as they are: each a choice that continues, made when the others were, and no
    more.

    This looks at every token, so it counts what engines write; what is written otherwise is looked at closely.
    """
    count = data.count(created)
    return (
        0 < count == data.count(b'"choices":[{') == data.count(b'"finish_reason":null')
        and data.find(b'"usage"') < 0
        and data.find(b'"error"') < 0
    )


def _first_created(data: bytes) -> bytes:
    found = _CREATED.search(data)
    return found.group() if found is not None else b""


def _with_choices(data: bytes, wants_usage: bool) -> bytes:
    """The frames without those that have no choices: clients index ``choices[0]``; only asked-for usage may
    stay.
    """
    kept = [
        one
        for one in data.split(b"\n\n")
        if one and (_NO_CHOICES.search(one) is None or (wants_usage and usage_in(one) is not None))
    ]
    return b"".join(one + b"\n\n" for one in kept)


def _without_comments(data: bytes) -> bytes:
    return b"".join(one for one in data.split(b"\n\n") if one and not one.startswith(b":"))


# Clients of engines that call an adapter by a model name of its own: given when they start, or while they run.


class FixedAdapterClient:
    """An `EngineClient` whose engine has the adapters that it got when it started, and no others."""

    def __init__(self, inner: EngineClient, name: str, adapters: Sequence[AdapterScale]) -> None:
        self._inner = inner
        self._name = name
        self._adapters = tuple(adapters)

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.models.protocol.EngineClient`."""
        if request.adapter is not None and not self.fits(request.adapter):
            raise adapter_not_loaded(request.adapter, self._name)
        return await self._inner.relay(request, deadline)

    def fits(self, adapter: AdapterScale) -> bool:
        return adapter in self._adapters

    async def attach(self, adapter: AdapterScale) -> None:
        """What fits is there."""

    async def detach(self, name: str) -> bool:
        return all(adapter.name != name for adapter in self._adapters)


class LiveAdapterClient:
    """An `EngineClient` whose engine loads adapters while it runs.

    ``load`` and ``unload`` ask the engine and raise `PorticoError`; ``fits`` says whether it was started for such an
    adapter.
    """

    def __init__(
        self,
        inner: EngineClient,
        *,
        load: Callable[[AdapterScale], Awaitable[None]],
        unload: Callable[[str], Awaitable[None]],
        fits: Callable[[AdapterScale], bool],
        name: str,
    ) -> None:
        self._inner = inner
        self._name = name
        self._load = load
        self._unload = unload
        self._takes = fits
        self._loaded: dict[str, AdapterScale] = {}
        self._lock = asyncio.Lock()

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.models.protocol.EngineClient`."""
        adapter = request.adapter
        if adapter is not None and self._loaded.get(adapter.name) != adapter:
            if not self._takes(adapter):
                raise adapter_not_loaded(adapter, self._name)
            await self.attach(adapter)
        return await self._inner.relay(request, deadline)

    def fits(self, adapter: AdapterScale) -> bool:
        return self._takes(adapter)

    async def attach(self, adapter: AdapterScale) -> None:
        async with self._lock:
            known = self._loaded.get(adapter.name)
            if known == adapter:
                return
            if known is not None:
                await self._unload(adapter.name)
                del self._loaded[adapter.name]
            await self._load(adapter)
            self._loaded[adapter.name] = adapter

    async def detach(self, name: str) -> bool:
        async with self._lock:
            if self._loaded.pop(name, None) is not None:
                await self._unload(name)
        return True


def adapter_not_loaded(adapter: AdapterScale, name: str) -> Unavailable:
    """For a call to an adapter that the running process lacks."""
    return Unavailable(
        f"The adapter '{adapter.name}' could not be loaded with '{name}'. The daemon's log says why.",
        code="adapter_not_loaded",
    )
