"""``/v1/images``: generate images from text and from other images.

Source: https://platform.openai.com/docs/api-reference/images.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final

import orjson

from portico_server.api.exchange import Exchange, Message, Presence, ending_in_errors
from portico_server.api.openai.relay import caller_of, fill_model, relaying
from portico_server.api.services import ApiServices
from portico_server.core import media
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.invalid import missing
from portico_server.core.media import Attachment
from portico_server.core.relay import Relay, RelayResponse
from portico_server.features.media.image_bodies import EDIT, IMAGE, REFERRING_EDIT
from portico_server.features.media.image_references import in_wanted_form, referred
from portico_server.settings import MB_BYTES

_EVENTS: Final = {"images/generations": "image_generation", "images/edits": "image_edit"}


async def generate(exchange: Exchange, services: ApiServices) -> None:
    """``POST /v1/images/generations``."""
    body = await exchange.json()
    await fill_model(services, body, "images/generations", caller_of(exchange))
    IMAGE.check(body)
    await _answer(exchange, services, Relay("images/generations", body))


async def edit(exchange: Exchange, services: ApiServices) -> None:
    """``POST /v1/images/edits``: edit images from a form, or images that a JSON body references."""
    if exchange.is_form:
        # Imported with the first form, so that the daemon starts without the form parser.
        from portico_server.api.openai import form

        names = ("image", "mask")
        limit = services.settings.max_media_mb * MB_BYTES
        multipart_form = await form.read(exchange, files=names, limit=limit, max_files=media.MAX_IMAGES + 1)
        body: dict[str, Any] = multipart_form.to_json(EDIT)
        await fill_model(services, body, "images/edits", caller_of(exchange))
        EDIT.check(body)
        files = tuple(
            media.attach(file.field, file.name, file.data, file.field) for file in multipart_form.files
        )
    else:
        body = await exchange.json()
        await fill_model(services, body, "images/edits", caller_of(exchange))
        REFERRING_EDIT.check(body)
        files = await referred(body, exchange, services)
    _check_files(files)
    await _answer(exchange, services, Relay("images/edits", body, files=files))


async def vary(exchange: Exchange, services: ApiServices) -> None:
    """``POST /v1/images/variations``: refuse the request. OpenAI has discontinued this endpoint."""
    raise InvalidRequest(
        "Variations are not supported; OpenAI has discontinued them as well. Send the image to "
        "/v1/images/edits, with a prompt that describes the changes.",
        code="unsupported_operation",
    )


def _check_files(files: tuple[Attachment, ...]) -> None:
    images = tuple(file for file in files if file.field == "image")
    masks = tuple(file for file in files if file.field == "mask")
    if not images:
        missing("image")
    if len(images) > media.MAX_IMAGES or len(masks) > 1:
        field_name = "mask" if len(masks) > 1 else "image"
        raise InvalidRequest(
            f"The request has {len(images)} images and {len(masks)} masks; at most {media.MAX_IMAGES} images "
            "and one mask are allowed.",
            param=field_name,
        )
    media.check_mask(images, masks[0] if masks else None, "mask")


async def _answer(exchange: Exchange, services: ApiServices, request: Relay) -> None:
    name = request.body["model"]
    caller = caller_of(exchange)
    servable = await relaying(services, request, caller)
    fields = {field: value for field, value in request.body.items() if value is not None}
    request = replace(request, body=fields)

    async def relay() -> RelayResponse:
        try:
            return await services.runner.relay(servable, name, request, caller)
        except PorticoError as error:
            # Models with a single response format refuse this option; the code below converts their images to
            # the requested format.
            if error.status not in (400, 422) or error.param != "response_format":
                raise
            plain = {field: value for field, value in fields.items() if field != "response_format"}
            return await services.runner.relay(servable, name, replace(request, body=plain), caller)

    async def begin(_head: Message) -> AsyncIterator[bytes]:
        relay_response = await relay()
        if relay_response.media_type.startswith("text/event-stream"):
            return relay_response.chunks
        events = _events(relay_response, _EVENTS[request.operation], exchange, services)
        return ending_in_errors(events, exchange)

    if request.stream:
        await exchange.stream(begin, tells_errors=True)
        return
    with Presence(exchange):
        relay_response = await relay()
        data = await relay_response.read()
        data = await in_wanted_form(
            data, fields.get("response_format"), exchange, services, relay_response.run
        )
    await exchange.answer(200, data)


async def _events(
    relay_response: RelayResponse, event: str, exchange: Exchange, services: ApiServices
) -> AsyncIterator[bytes]:
    """Yield the events that a client requested, from a model that answers with a single response."""
    data = await relay_response.read()
    document = orjson.loads(await in_wanted_form(data, "b64_json", exchange, services, relay_response.run))
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
