"""Forwards audio and images to a server with an OpenAI-compatible API, and returns the server's responses. Imports
aiohttp.
"""

from __future__ import annotations

import base64
import contextlib
import io
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import aiohttp
import orjson

from portico.wire import Usage
from portico_server.core.errors import EngineFailed, PorticoError
from portico_server.core.media import Attachment
from portico_server.core.relay import Operation, Relay, RelayResponse, single_chunk
from portico_server.models.answers import close_chunks
from portico_server.models.openai_wire import error_in, frame
from portico_server.models.token_usage import usage_in
from portico_server.models.transport import CONNECTION_ERRORS, Upstream

MEDIA_OPERATIONS: tuple[Operation, ...] = (
    "audio/speech",
    "audio/transcriptions",
    "audio/translations",
    "images/generations",
    "images/edits",
)

_END = re.compile(rb'"type"\s*:\s*"[a-z._]+\.(?:done|completed)"|data: ?\[DONE\]|"finish_reason"\s*:\s*"')
"""Pattern that occurs in the last events of a complete stream, either OpenAI's own events or those of vLLM."""


async def forward_media(
    upstream: Upstream, request: Relay, body: dict[str, Any], deadline: float | None
) -> RelayResponse:
    """Forward one of `MEDIA_OPERATIONS` with ``body``, and stream the response back. Raises `PorticoError`."""
    route = upstream.route(request.operation)
    if request.files:
        response = await upstream.post(route, multipart_form(body, request.files), deadline)
    else:
        response = await upstream.post(route, body, deadline)
    media_type = response.headers.get("Content-Type", "application/octet-stream")
    if media_type.startswith("text/event-stream"):
        return await _events(upstream, response, deadline)
    if media_type.startswith(("application/json", "text/")):
        data = await upstream.read_whole(response, deadline)
        if media_type.startswith("application/json"):
            _check(data, upstream.name)
        return RelayResponse(media_type, single_chunk(data), usage_in(data) or Usage())
    return await _bytes(upstream, response, media_type, deadline)


def multipart_form(fields: Mapping[str, Any], files: tuple[Attachment, ...]) -> aiohttp.FormData:
    """Return a form in the format of OpenAI's clients: a list as several fields ``name[]``, and an object as fields
    ``name[key]``.
    """
    form_data = aiohttp.FormData(quote_fields=False)
    for name, value in fields.items():
        if isinstance(value, list | tuple):
            for item in value:
                form_data.add_field(f"{name}[]", _text(item))
        elif isinstance(value, Mapping):
            for key, item in value.items():
                form_data.add_field(f"{name}[{key}]", _text(item))
        elif value is not None:
            form_data.add_field(name, _text(value))
    counts = Counter(file.field for file in files)
    for file in files:
        field = f"{file.field}[]" if counts[file.field] > 1 else file.field
        form_data.add_field(field, io.BytesIO(file.data), filename=file.name, content_type=file.media_type)
    return form_data


def embed_files(request: Relay) -> Relay:
    """Return the request with its files as base64 in the field ``files`` of the JSON body, which Portico's own workers
    expect.
    """
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
    """Raise the error if the body of a response with status 200 contains one, as some providers send it."""
    document = None
    with contextlib.suppress(orjson.JSONDecodeError):
        document = orjson.loads(data)
    if not isinstance(document, dict):
        raise EngineFailed(f"The engine of '{name}' returned something other than a JSON object.")
    if (error := error_in(document, name)) is not None:
        raise error


async def _bytes(
    upstream: Upstream, response: aiohttp.ClientResponse, media_type: str, deadline: float | None
) -> RelayResponse:
    """Return a response that is neither text nor JSON, once its first bytes have arrived."""
    pieces = upstream.pieces(response, deadline)
    try:
        first = await anext(pieces, b"")
    except CONNECTION_ERRORS as error:
        raise await upstream.explain(error) from error
    except BaseException:
        await close_chunks(pieces)
        raise
    if not first:
        raise EngineFailed(f"The engine of '{upstream.name}' returned an empty response.")

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
            raise EngineFailed(f"The engine of '{upstream.name}' closed the stream before its first event.")
    except CONNECTION_ERRORS as error:
        raise await upstream.explain(error) from error
    except BaseException:
        await close_chunks(frames)
        raise
    relay_response = RelayResponse("text/event-stream", frames)

    async def chunks() -> AsyncIterator[bytes]:
        try:
            data = first
            has_ended = False
            while data:
                _raise_if_error(data, upstream.name)
                relay_response.usage = usage_in(data) or relay_response.usage
                has_ended = _END.search(data) is not None
                yield data
                data = await anext(frames, b"")
            if not has_ended:
                raise EngineFailed(f"The engine of '{upstream.name}' stopped in the middle of its answer.")
        except CONNECTION_ERRORS as broken:
            error = await upstream.explain(broken)
            yield frame(error)
            raise error from broken
        except PorticoError as error:
            yield frame(error)
            raise
        finally:
            await close_chunks(frames)

    relay_response.chunks = chunks()
    return relay_response


def _raise_if_error(frames: bytes, name: str) -> None:
    if b'"error"' not in frames:
        return
    for part in frames.split(b"\n\n"):
        document = None
        with contextlib.suppress(orjson.JSONDecodeError):
            document = orjson.loads(part.rpartition(b"data:")[2])
        if (error := error_in(document, name)) is not None:
            raise error
