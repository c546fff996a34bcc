"""``/v1/files``: upload, list, retrieve, read, delete."""

from __future__ import annotations

import mimetypes
import time
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel

from portico_server.api import made
from portico_server.api.endpoint import Caller, TheParts
from portico_server.api.endpoint import new_router as new_router
from portico_server.api.openai import upload
from portico_server.core.errors import Forbidden, InvalidRequest, NotFound
from portico_server.db.artifacts import ArtifactRow
from portico_server.db.files import FileRow
from portico_server.knowledge.files import PURPOSES, FileStorage

router = new_router(prefix="/v1/files", tags=["OpenAI: files"])

SHORTEST, LONGEST = 3_600, 30 * 86_400
"""Seconds for which a file with ``expires_after`` may be kept."""


MADE = "art_"
"""What the ids of files begin with that runs made."""


class File(BaseModel):
    """An uploaded file, or one that a run made. Times in seconds since 1970."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: str
    status: Literal["uploaded", "processed", "error"] = "processed"
    status_details: str | None = None


class FileList(BaseModel):
    """One page of files."""

    object: Literal["list"] = "list"
    data: list[File]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(BaseModel):
    """What was removed."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"enum": list(PURPOSES)},
                        "expires_after[anchor]": {"enum": ["created_at"]},
                        "expires_after[seconds]": {
                            "type": "integer",
                            "minimum": SHORTEST,
                            "maximum": LONGEST,
                        },
                    },
                }
            }
        },
    }
}


@router.post("", openapi_extra=_FORM)
async def create_file(request: Request, parts: TheParts, caller: Caller) -> File:
    """Upload a file. The key must be able to use one: in a store, in a chat or batch, or for fine-tuning."""
    if not (caller.allows_some("stores", "write") or caller.allows("chat") or caller.allows("finetune")):
        raise Forbidden(
            "This key may not upload files: it lacks every scope that could use one, which are 'stores:NAME:write', "
            "'chat' and 'finetune'. Ask the operator for a key that has one of them."
        )
    form = await upload.read(request, parts.files)
    try:
        purpose = form.fields.get("purpose")
        if not purpose:
            raise InvalidRequest(
                f"'purpose' is missing. Purposes are: {', '.join(PURPOSES)}.",
                code="missing_required_parameter",
                param="purpose",
            )
        expires_at = _expires_at(form.fields)
    except InvalidRequest:
        await parts.files.drop(form.received)
        raise
    return shown(await parts.files.keep(form.received, form.filename, purpose, caller, expires_at=expires_at))


@router.get("")
async def list_files(
    parts: TheParts,
    caller: Caller,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    purpose: str | None = None,
) -> FileList:
    """The caller's files, newest first."""
    page = await parts.files.list(caller, after=after, limit=limit, order=order, purpose=purpose)
    data = [shown(row) for row in page.data]
    return FileList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=page.has_more,
    )


@router.get("/{file_id}")
async def retrieve_file(file_id: str, parts: TheParts, caller: Caller) -> File:
    """One of them, or a file that a run made."""
    if file_id.startswith(MADE):
        return _made(await parts.artifacts.get(file_id, caller))
    return shown(await parts.files.get(file_id, caller))


@router.delete("/{file_id}")
async def delete_file(file_id: str, parts: TheParts, caller: Caller) -> FileDeleted:
    """Remove a file, from every vector store too."""
    return FileDeleted(id=(await parts.files.delete(file_id, caller)).id)


@router.get("/{file_id}/content", response_class=FileResponse)
async def read_file(file_id: str, parts: TheParts, caller: Caller) -> FileResponse:
    """The bytes of a file, as they were uploaded or a run made them."""
    if file_id.startswith(MADE):
        return made.content(parts.artifacts, await parts.artifacts.get(file_id, caller))
    return content(parts.files, await parts.files.get(file_id, caller))


def content(files: FileStorage, row: FileRow) -> FileResponse:
    """A response with the bytes of a file. Never shown as a page of ours: a file may hold anybody's scripts."""
    path = files.path(row)
    if not path.is_file():
        raise NotFound(
            f"The bytes of '{row.filename}' are no longer on this machine. Upload it again.",
            code="file_content_missing",
            param="file_id",
        )
    name = PurePosixPath(row.filename.replace("\\", "/")).name
    return FileResponse(
        path,
        media_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
        filename=name,
        headers={"Content-Security-Policy": "sandbox"},
    )


def shown(row: FileRow) -> File:
    """A file as OpenAI describes it."""
    return File(
        id=row.id,
        bytes=row.bytes,
        created_at=int(row.created_at),
        expires_at=None if row.expires_at is None else int(row.expires_at),
        filename=row.filename,
        purpose=row.purpose,
    )


def _made(row: ArtifactRow) -> File:
    """A file that a run made, as OpenAI describes those of its code interpreter."""
    return File(
        id=row.id,
        bytes=row.bytes,
        created_at=int(row.created_at),
        filename=row.name,
        purpose="assistants_output",
    )


def _expires_at(fields: Mapping[str, str]) -> float | None:
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InvalidRequest("'expires_after[anchor]' must be 'created_at'.", param="expires_after[anchor]")
    if seconds is None or not seconds.isdecimal() or not SHORTEST <= int(seconds[:12]) <= LONGEST:
        raise InvalidRequest(
            f"'expires_after[seconds]' must be a whole number from {SHORTEST} to {LONGEST}.",
            param="expires_after[seconds]",
        )
    return time.time() + int(seconds)
