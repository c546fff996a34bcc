"""Pictures by reference: those that a request points to, and those that its answer is to point to."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import orjson

from portico_server.api.exchange import Exchange
from portico_server.api.openai.relay import caller_of
from portico_server.api.services import ApiServices
from portico_server.core import fetching, media
from portico_server.core.errors import EngineFailed, InvalidRequest, NotFound
from portico_server.core.invalid import wrong, wrong_type
from portico_server.core.media import Attachment
from portico_server.knowledge.uploaded_files import UploadedFiles
from portico_server.runs.artifacts import Author, NewArtifact
from portico_server.settings import MB_BYTES
from portico_server.tools.fetch.fetcher import OutwardFetcher
from portico_server.tools.fetch.policy import AddressPolicy

FETCH_TIMEOUT_S: Final = 60.0
"""Seconds in which a picture must have come from elsewhere."""


MAX_GENERATED_BYTES: Final = 64 * MB_BYTES
"""Bytes that a picture may have which a model has made."""


async def referred(body: dict[str, Any], exchange: Exchange, services: ApiServices) -> tuple[Attachment, ...]:
    """Take ``images`` and ``mask`` out of a JSON body: data URLs, addresses, ids of files. Raises `PorticoError`."""
    numbered_items = enumerate(body.pop("images"))
    attachments = [
        await _one(item, "image", f"images[{number}]", exchange, services) for number, item in numbered_items
    ]
    mask = body.pop("mask", None)
    if mask is not None:
        attachments.append(await _one(mask, "mask", "mask", exchange, services))
    return tuple(attachments)


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
    data: bytes, response_format: str | None, exchange: Exchange, services: ApiServices, run: str
) -> bytes:
    """An answer of a model with its pictures as they are ``response_format``.

    For ``url`` those that came as base64 are kept as artifacts of this caller; for ``b64_json`` those that are still
    with a provider are fetched. Raises `PorticoError`.
    """
    if response_format is None:
        return data
    document = orjson.loads(data)
    items = document.get("data")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise EngineFailed("The model answered something that is not pictures.")
    lacking = [item for item in items if not item.get(response_format)]
    if not lacking:
        return data
    if response_format == "b64_json":
        for item in lacking:
            fetched_data = await _fetched(str(item.pop("url", "")), services, MAX_GENERATED_BYTES)
            item["b64_json"] = base64.b64encode(fetched_data).decode()
        return orjson.dumps(document)
    new_artifacts = []
    for number, item in enumerate(lacking, 1):
        raw = base64.b64decode(item.pop("b64_json", None) or "")
        image_header = media.measure_image(raw)
        kind = image_header.media_type if image_header is not None else "application/octet-stream"
        new_artifacts.append(NewArtifact(f"picture-{number}.{media.SUFFIXES.get(kind, 'bin')}", kind, raw))
    artifacts = await services.artifacts.keep(new_artifacts, Author(run, caller_of(exchange)))
    base = exchange.base_url(services.settings)
    for item, artifact in zip(lacking, artifacts, strict=True):
        item["url"] = f"{base}/v1/files/{artifact.id}/content"
    return orjson.dumps(document)


async def _fetched(url: str, services: ApiServices, limit: int) -> bytes:
    fetcher = OutwardFetcher(AddressPolicy.of(services.settings.tool_hosts))
    return await fetching.read_whole(fetcher, url, limit=limit, seconds=FETCH_TIMEOUT_S)
