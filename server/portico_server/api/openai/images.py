"""``/v1/images``: pictures made of words, and of other pictures.

Source: https://platform.openai.com/docs/api-reference/images.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from portico_server.api.auth.protected_resource import address
from portico_server.api.exchange import STREAM, Exchange, Presence
from portico_server.api.openai import bodies
from portico_server.api.openai.relay import caller_of, relaying
from portico_server.api.services import ApiServices
from portico_server.core import fields, interfaces, media
from portico_server.core.errors import EngineFailed, InvalidRequest, NotFound, PorticoError
from portico_server.core.fields import BodyField, RequestBody
from portico_server.core.invalid import missing, wrong, wrong_type
from portico_server.core.media import Attachment, size_of
from portico_server.core.relay import Relay, RelayResponse
from portico_server.knowledge.files import UploadedFiles
from portico_server.runs.artifacts import Author, NewArtifact
from portico_server.settings import MB_BYTES
from portico_server.tools.fetch.fetcher import OutwardFetcher
from portico_server.tools.fetch.policy import AddressPolicy

# What must be right in a request for pictures before a model sees it. Pure: values in, `InvalidRequest` out.
#
# Source: https://platform.openai.com/docs/api-reference/images.


MAX_PROMPT_CHARS: Final = 32_000
"""Characters of a prompt."""

MAX_RESULTS: Final = 10
"""Pictures of one request."""

MAX_PARTIAL_IMAGES: Final = 3
"""Pictures on the way to one that is streamed."""


def _size(value: Any, path: str) -> None:
    if not isinstance(value, str):
        wrong_type(path, "a string", value)
    size_of(value, path)


def _check_combination(body: Mapping[str, Any]) -> None:
    if body.get("background") == "transparent" and body.get("output_format") == "jpeg":
        wrong("background", "is 'transparent', but a JPEG has no transparency: ask for png or webp")
    if not body.get("stream"):
        if body.get("partial_images"):
            wrong("partial_images", "needs 'stream' to be true")
    elif body.get("response_format") == "url":
        wrong("response_format", "is 'url', but events of a stream hold their pictures as b64_json")


_FILE: Final = {"type": "string", "format": "binary"}

IMAGE: Final = RequestBody(
    {"model": bodies.MODEL, "prompt": fields.prose(MAX_PROMPT_CHARS)},
    {
        "n": fields.integer(1, MAX_RESULTS).noted(default=1),
        "size": BodyField(
            _size,
            {
                "type": "string",
                "pattern": "^(auto|[0-9]+x[0-9]+)$",
                "default": "auto",
                "description": "auto or WIDTHxHEIGHT in pixels",
            },
        ),
        "quality": fields.choice("auto", "low", "medium", "high", "xhigh", "max", "standard", "hd").noted(
            default="auto"
        ),
        "style": fields.choice("vivid", "natural"),
        "background": fields.choice("auto", "transparent", "opaque").noted(default="auto"),
        "output_format": fields.choice("png", "jpeg", "webp", "gif", "svg").noted(default="png"),
        "output_compression": fields.integer(0, 100),
        "response_format": fields.choice("url", "b64_json"),
        "input_fidelity": fields.choice("high", "low"),
        "moderation": fields.choice("auto", "low"),
        "stream": bodies.STREAM,
        "partial_images": fields.integer(0, MAX_PARTIAL_IMAGES).noted(default=0),
        "user": fields.text(),
        "safety_identifier": fields.text(),
        "seed": fields.integer(),
        "steps": fields.integer(1, 500),
        "guidance_scale": fields.number(0, 100),
        "strength": fields.number(0, 1),
        "negative_prompt": fields.text(),
        "svg": fields.anything(type="object"),
    },
    rule=_check_combination,
    example={"model": "painter", "prompt": "A lighthouse at night", "size": "512x512"},
)
"""``POST /v1/images/generations``."""

EDIT: Final = RequestBody(
    IMAGE.required,
    {**IMAGE.optional, "mask": fields.anything(**_FILE)},
    IMAGE.rule,
    files={"image": {"type": "array", "maxItems": media.MAX_IMAGES, "items": _FILE}},
)
"""``POST /v1/images/edits`` as a form."""


def _images(value: Any, path: str) -> None:
    if not isinstance(value, list) or not value:
        wrong_type(path, "a list of objects with 'image_url' or 'file_id'", value)
    if len(value) > media.MAX_IMAGES:
        wrong(path, f"has {len(value)} items; at most {media.MAX_IMAGES} are taken")


_REFERENCE: Final = {
    "type": "object",
    "properties": {"image_url": {"type": "string"}, "file_id": {"type": "string"}},
}

REFERRING_EDIT: Final = RequestBody(
    {
        **IMAGE.required,
        "images": BodyField(
            _images, {"type": "array", "minItems": 1, "maxItems": media.MAX_IMAGES, "items": _REFERENCE}
        ),
    },
    {**IMAGE.optional, "mask": fields.anything(**_REFERENCE)},
    IMAGE.rule,
)
"""``POST /v1/images/edits`` as JSON, which refers to its pictures."""


# Pictures by reference: those that a request points to, and those that its answer is to point to.


FETCH_TIMEOUT_S: Final = 60.0
"""Seconds in which a picture must have come from elsewhere."""

MAX_GENERATED_BYTES: Final = 64 * MB_BYTES
"""Bytes that a picture may have which a model has made."""


async def referred(body: dict[str, Any], exchange: Exchange, services: ApiServices) -> tuple[Attachment, ...]:
    """Take ``images`` and ``mask`` out of a JSON body: data URLs, addresses, ids of files. Raises `PorticoError`."""
    given = enumerate(body.pop("images"))
    found = [await _one(item, "image", f"images[{number}]", exchange, services) for number, item in given]
    mask = body.pop("mask", None)
    if mask is not None:
        found.append(await _one(mask, "mask", "mask", exchange, services))
    return tuple(found)


async def _one(item: Any, field: str, at: str, exchange: Exchange, services: ApiServices) -> Attachment:
    url, file_id = (item.get("image_url"), item.get("file_id")) if isinstance(item, Mapping) else (None, None)
    limit = services.settings.max_media_mb * MB_BYTES
    if isinstance(file_id, str):
        name, data = await UploadedFiles(services.files, services.artifacts).read(
            file_id, caller_of(exchange), limit=limit, param=f"{at}.file_id"
        )
        return media.attach(field, name.rpartition("/")[2], data, f"{at}.file_id")
    if not isinstance(url, str):
        wrong_type(at, "an object with a string 'image_url' or 'file_id'", item)
    param = f"{at}.image_url"
    if url.startswith("data:"):
        head, _, text = url.partition(",")
        try:
            data = base64.b64decode(text, validate=True) if head.endswith(";base64") else b""
        except (binascii.Error, ValueError):
            data = b""
        if not data:
            wrong(param, "must be data:image/TYPE;base64,DATA or an address")
    else:
        try:
            data = await _fetched(url, services, limit)
        except (InvalidRequest, NotFound) as error:
            raise InvalidRequest(error.message, code=error.code, param=param) from error
    return media.attach(field, "image", data, param)


async def in_wanted_form(
    data: bytes, wanted: str | None, exchange: Exchange, services: ApiServices, run: str
) -> bytes:
    """An answer of a model with its pictures as they are ``wanted``.

    For ``url`` those that came as base64 are kept as artifacts of this caller; for ``b64_json`` those that are still
    with a provider are fetched. Raises `PorticoError`.
    """
    if wanted is None:
        return data
    document = orjson.loads(data)
    items = document.get("data")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise EngineFailed("The model answered something that is not pictures.")
    lacking = [item for item in items if not item.get(wanted)]
    if not lacking:
        return data
    if wanted == "b64_json":
        for item in lacking:
            fetched = await _fetched(str(item.pop("url", "")), services, MAX_GENERATED_BYTES)
            item["b64_json"] = base64.b64encode(fetched).decode()
        return orjson.dumps(document)
    made = []
    for number, item in enumerate(lacking, 1):
        raw = base64.b64decode(item.pop("b64_json", None) or "")
        known = media.measure_image(raw)
        kind = known.media_type if known is not None else "application/octet-stream"
        made.append(NewArtifact(f"picture-{number}.{media.SUFFIXES.get(kind, 'bin')}", kind, raw))
    kept = await services.artifacts.keep(made, Author(run, caller_of(exchange)))
    host = exchange.header(b"host")
    base = address(
        services.settings, exchange.scope.get("scheme", "http"), host.decode("latin-1") if host else None
    )
    for item, artifact in zip(lacking, kept, strict=True):
        item["url"] = f"{base}/v1/files/{artifact.id}/content"
    return orjson.dumps(document)


async def _fetched(url: str, services: ApiServices, limit: int) -> bytes:
    fetcher = OutwardFetcher(AddressPolicy.of(services.settings.tool_hosts))
    return await interfaces.read_whole(fetcher, url, limit=limit, seconds=FETCH_TIMEOUT_S)


_EVENTS: Final = {"images/generations": "image_generation", "images/edits": "image_edit"}


async def generate(exchange: Exchange, services: ApiServices) -> None:
    """``POST /v1/images/generations``."""
    body = await exchange.json()
    IMAGE.check(body)
    await _answer(exchange, services, Relay("images/generations", body))


async def edit(exchange: Exchange, services: ApiServices) -> None:
    """``POST /v1/images/edits``: a form with the pictures, or JSON that refers to them."""
    if exchange.is_form:
        # Loaded with the first form: a start of the daemon does without its parser.
        from portico_server.api.openai import form

        names = ("image", "mask")
        limit = services.settings.max_media_mb * MB_BYTES
        found = await form.read(exchange, files=names, limit=limit, max_files=media.MAX_IMAGES + 1)
        body: dict[str, Any] = found.typed(EDIT)
        EDIT.check(body)
        files = tuple(media.attach(file.field, file.name, file.data, file.field) for file in found.files)
    else:
        body = await exchange.json()
        REFERRING_EDIT.check(body)
        files = await referred(body, exchange, services)
    _check_files(files)
    await _answer(exchange, services, Relay("images/edits", body, files=files))


async def vary(exchange: Exchange, services: ApiServices) -> None:
    """``POST /v1/images/variations``, which its inventor has given up."""
    raise InvalidRequest(
        "Variations are no longer made, here as at OpenAI. Send the image to /v1/images/edits, with a prompt that says "
        "what is to be different.",
        code="unsupported_operation",
    )


def _check_files(files: tuple[Attachment, ...]) -> None:
    images = tuple(file for file in files if file.field == "image")
    masks = tuple(file for file in files if file.field == "mask")
    if not images:
        missing("image")
    if len(images) > media.MAX_IMAGES or len(masks) > 1:
        which = "mask" if len(masks) > 1 else "image"
        raise InvalidRequest(
            f"The request has {len(images)} images and {len(masks)} masks; at most {media.MAX_IMAGES} images and one "
            f"mask "
            "are taken.",
            param=which,
        )
    media.check_mask(images, masks[0] if masks else None, "mask")


async def _answer(exchange: Exchange, services: ApiServices, request: Relay) -> None:
    name = request.body["model"]
    caller = caller_of(exchange)
    servable = await relaying(services, request, caller)
    given = {field: value for field, value in request.body.items() if value is not None}
    request = replace(request, body=given)
    with Presence(exchange):
        try:
            relayed = await services.runner.relay(servable, name, request, caller)
        except PorticoError as error:
            # Models that know one way to answer alone refuse to be asked; the other way is made of it below.
            if error.status not in (400, 422) or error.param != "response_format":
                raise
            plain = {field: value for field, value in given.items() if field != "response_format"}
            relayed = await services.runner.relay(servable, name, replace(request, body=plain), caller)
        if not request.stream:
            data = b"".join([chunk async for chunk in relayed.chunks])
            data = await in_wanted_form(data, given.get("response_format"), exchange, services, relayed.run)
    if not request.stream:
        await exchange.answer(200, data)
    elif relayed.media_type.startswith("text/event-stream"):
        await exchange.stream(relayed.chunks, tells_errors=True)
    else:
        events = _events(relayed, _EVENTS[request.operation], exchange, services)
        await exchange.stream(events, STREAM)


async def _events(
    relayed: RelayResponse, event: str, exchange: Exchange, services: ApiServices
) -> AsyncIterator[bytes]:
    """The stream that was asked for, from a model that answers at once."""
    data = b"".join([chunk async for chunk in relayed.chunks])
    document = orjson.loads(await in_wanted_form(data, "b64_json", exchange, services, relayed.run))
    kind = f"{event}.completed"
    parameters = {
        name: document[name]
        for name in ("size", "quality", "background", "output_format")
        if name in document
    }
    for item in document["data"]:
        body = {
            "type": kind,
            "b64_json": item["b64_json"],
            "created_at": document.get("created") or int(time.time()),
            **parameters,
            **({"usage": document["usage"]} if document.get("usage") else {}),
        }
        yield b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(body) + b"\n\n"
