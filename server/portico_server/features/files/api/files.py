"""``/v1/files``: upload, list, retrieve, read, delete."""

from __future__ import annotations

import mimetypes
import time
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Literal

from fastapi import Query, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from portico_server.api.declarations import FILE_BYTES
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.kept_response import KeptFileResponse, artifact_response
from portico_server.api.openai import upload
from portico_server.api.shapes import Moment, Page, RemovedObject, shaped
from portico_server.core.errors import Forbidden, InvalidRequest
from portico_server.core.principal import Principal
from portico_server.core.words import whole_number
from portico_server.db.artifacts import ArtifactRow
from portico_server.db.files import FileRow
from portico_server.features.files.files import PURPOSES, FileStorage

router = new_router(prefix="/v1/files", tags=["OpenAI: files"])

MIN_LIFETIME_S, MAX_LIFETIME_S = 3_600, 30 * 86_400
"""Minimum and maximum lifetime of a file with ``expires_after``, in seconds."""


GENERATED_ID_PREFIX = "art_"
"""Prefix of the ids of files that runs made."""


class File(BaseModel):
    """An uploaded file, or a file made by a run. Times are in seconds since 1970."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: Moment
    expires_at: Moment | None = None
    filename: str
    purpose: str
    status: Literal["uploaded", "processed", "error"] = "processed"
    status_details: str | None = None


class OutputExpiry(BaseModel):
    """How long the output files are kept, in seconds from their creation."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=MIN_LIFETIME_S, le=MAX_LIFETIME_S)]


class FileDeleted(RemovedObject):
    """The deleted file."""

    object: Literal["file"] = "file"


_FORM = upload.declare_form(
    ["file", "purpose"],
    {
        "file": upload.FILE,
        "purpose": {"enum": list(PURPOSES)},
        "expires_after[anchor]": {"enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": MIN_LIFETIME_S, "maximum": MAX_LIFETIME_S},
    },
)


@router.post("", openapi_extra=_FORM)
async def create_file(request: Request, services: TheServices, caller: Caller) -> File:
    """Upload a file. The key must have a scope that can use the file: in a store, in a chat or batch, or for
    fine-tuning.
    """
    require_upload(caller)
    await services.files.require_room(caller.id, 1)
    form = await upload.read(request, services.files)
    try:
        purpose = form.fields.get("purpose")
        if not purpose:
            raise InvalidRequest(
                f"'purpose' is missing. Valid purposes: {', '.join(PURPOSES)}.",
                code="missing_required_parameter",
                param="purpose",
            )
        expires_at = _expires_at(form.fields)
    except InvalidRequest:
        await services.files.drop(form.received)
        raise
    return to_file(
        await services.files.keep(form.received, form.filename, purpose, caller, expires_at=expires_at)
    )


@router.get("")
async def list_files(
    services: TheServices,
    caller: Caller,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    purpose: str | None = None,
) -> Page[File]:
    """Return the caller's files, newest first."""
    page = await services.files.list(caller, after=after, limit=limit, order=order, purpose=purpose)
    data = [to_file(row) for row in page.data]
    return Page.of(data, page.has_more)


@router.get("/{file_id}")
async def retrieve_file(file_id: str, services: TheServices, caller: Caller) -> File:
    """Return one file: an uploaded file, or a file made by a run."""
    if file_id.startswith(GENERATED_ID_PREFIX):
        return _to_file(await services.artifacts.get(file_id, caller))
    return to_file(await services.files.get(file_id, caller))


@router.delete("/{file_id}")
async def delete_file(file_id: str, services: TheServices, caller: Caller) -> FileDeleted:
    """Delete a file and remove it from every vector store."""
    return FileDeleted(id=(await services.files.delete(file_id, caller)).id)


@router.get("/{file_id}/content", response_class=FileResponse, responses=FILE_BYTES)
async def read_file(file_id: str, services: TheServices, caller: Caller) -> FileResponse:
    """Return the bytes of a file, exactly as they were uploaded or made by a run."""
    if file_id.startswith(GENERATED_ID_PREFIX):
        return artifact_response(services.artifacts, await services.artifacts.get(file_id, caller))
    return _file_response(services.files, await services.files.readable(file_id, caller))


def require_upload(caller: Principal) -> None:
    """Raise `Forbidden` unless the caller has a scope that can use uploaded files."""
    if not (caller.allows_some("stores", "write") or caller.allows("chat") or caller.allows("finetune")):
        raise Forbidden(
            "This key cannot upload files: it has none of the scopes that can use them ('stores:NAME:write', "
            "'chat' and 'finetune'). Ask the operator for a key with one of these scopes."
        )


def to_file(row: FileRow) -> File:
    """Return a file in OpenAI's format."""
    return shaped(File, row)


def _to_file(row: ArtifactRow) -> File:
    """Return a file made by a run, in the format that OpenAI uses for code interpreter files."""
    return shaped(File, row, filename=row.name, purpose="assistants_output")


def _expires_at(fields: Mapping[str, str]) -> float | None:
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InvalidRequest("'expires_after[anchor]' must be 'created_at'.", param="expires_after[anchor]")
    lifetime_s = None if seconds is None else whole_number(seconds)
    if lifetime_s is None or not MIN_LIFETIME_S <= lifetime_s <= MAX_LIFETIME_S:
        raise InvalidRequest(
            f"'expires_after[seconds]' must be a whole number from {MIN_LIFETIME_S} to {MAX_LIFETIME_S}.",
            param="expires_after[seconds]",
        )
    return time.time() + lifetime_s


def _file_response(files: FileStorage, row: FileRow) -> KeptFileResponse:
    """Return a response with the bytes of a file."""
    name = PurePosixPath(row.filename.replace("\\", "/")).name
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return KeptFileResponse(files.open(row.sha256), name, media_type, files.missing(row))
