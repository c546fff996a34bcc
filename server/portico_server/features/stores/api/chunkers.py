"""``/api/chunkers`` and ``/api/chunk``: the strategies for splitting documents, and a preview of their chunks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
from fastapi import Request
from pydantic import BaseModel, Field, ValidationError

from portico.schemas.chunks import Chunker, Cut
from portico_server.api import errors
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.openai import upload
from portico_server.api.shapes import Listed
from portico_server.api.sse import while_present
from portico_server.core import pools
from portico_server.core.errors import InvalidRequest
from portico_server.core.filenames import check_filename
from portico_server.features.chunkers.chunkers import CHUNKERS
from portico_server.features.readers.formats import FORMATS
from portico_server.features.stores.preview import check_strategies

router = new_router(prefix="/api", tags=["Chunkers"])

LIMIT = 1_000
"""Maximum number of chunks that a preview shows per strategy."""


class ChunkingRequest(BaseModel, extra="forbid"):
    """A text to split; the extension of ``filename`` determines its format."""

    text: str
    filename: str = "text.txt"
    strategies: list[str | dict[str, Any]] | None = None
    limit: int = Field(default=100, ge=1, le=LIMIT)


_BODY = upload.declare_form(
    ["file"],
    {
        "file": upload.FILE,
        "strategies": {
            "type": "string",
            "description": "A JSON list of strategies, each a name or an object",
        },
        "limit": {"type": "integer", "minimum": 1, "maximum": LIMIT},
    },
    json=ChunkingRequest.model_json_schema(),
)


@router.get("/chunkers")
async def list_chunkers(_caller: Caller) -> Listed[Chunker]:
    """List the strategies for splitting documents."""
    return Listed(
        data=[
            Chunker(
                name=item.name,
                description=item.description,
                size=item.size,
                overlap=item.overlap,
                formats=tuple(
                    sorted(end for form in FORMATS if form.chunker == item.name for end in form.suffixes)
                ),
            )
            for item in await pools.LOADING.run(lambda: list(CHUNKERS.usable()))
        ]
    )


@router.post("/chunk", openapi_extra=_BODY)
async def preview_chunks(request: Request, services: TheServices, caller: Caller) -> Listed[Cut]:
    """Preview how each strategy would split a document. Nothing is stored."""
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        form = await upload.read(request, services.files)
        file, name = form.received, form.filename
        try:
            body = _chunking_request({"text": "", "filename": name, **_fields(form.fields)})
        except InvalidRequest:
            await services.files.drop(file)
            raise
    else:
        body = _chunking_request(await _json(request))
        check_filename(body.filename, "filename")
        file = await services.files.receive(_bytes(body.text), durable=False)
    try:
        strategies = check_strategies(body.strategies)
        work = services.stores.previews.cut(file.path, body.filename, strategies, caller, limit=body.limit)
        cuts = await while_present(request, work)
    finally:
        await services.files.drop(file)
    return Listed(data=cuts)


async def _json(request: Request) -> Any:
    try:
        return orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise errors.invalid_json(error) from error


def _fields(fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the form fields other than the file. The field ``strategies`` is parsed as a JSON list."""
    options: dict[str, Any] = {
        name: value for name, value in fields.items() if name in ("strategies", "limit")
    }
    if "strategies" in options:
        try:
            options["strategies"] = orjson.loads(options["strategies"])
        except orjson.JSONDecodeError as error:
            raise InvalidRequest("'strategies' must be a JSON list.", param="strategies") from error
    return options


def _chunking_request(value: Any) -> ChunkingRequest:
    try:
        return ChunkingRequest.model_validate(value)
    except ValidationError as error:
        problems = [{**problem, "loc": ("body", *problem["loc"])} for problem in error.errors()]
        raise errors.from_validation(problems, ChunkingRequest.model_json_schema()) from error


async def _bytes(text: str) -> AsyncIterator[bytes]:
    # JSON can contain a lone surrogate, but UTF-8 cannot.
    yield text.encode("utf-8", "replace")
