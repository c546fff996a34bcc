"""``/v1/uploads``: large files in parts.

https://platform.openai.com/docs/api-reference/uploads
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Request
from pydantic import BaseModel, Field

from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.openai import upload
from portico_server.api.shapes import Moment, shaped
from portico_server.db.uploads import PartRow, UploadStatus
from portico_server.features.files.api.files import File, OutputExpiry, require_upload, to_file
from portico_server.features.files.uploads import MAX_PART_BYTES, MAX_PARTS, UploadState

router = new_router(prefix="/v1/uploads", tags=["OpenAI: files"])


class UploadRequest(BaseModel):
    """A file to be uploaded in parts; ``expires_after`` is counted from the completion of the file."""

    filename: str = Field(min_length=1, max_length=1_024)
    purpose: str = Field(min_length=1, max_length=80)
    bytes: int = Field(ge=1, le=2**53)
    mime_type: str = Field(min_length=3, max_length=300)
    expires_after: OutputExpiry | None = None


class CompleteRequest(BaseModel):
    """The ids of the parts in the order in which they form the file, and the MD5 of the whole file."""

    part_ids: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(
        min_length=1, max_length=MAX_PARTS
    )
    md5: str | None = Field(default=None, min_length=32, max_length=32)


class UploadPart(BaseModel):
    """A part that has arrived. ``bytes`` and ``sha256`` are Portico's additions, with which a client can continue an
    upload.
    """

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: Moment
    upload_id: str
    bytes: int
    sha256: str


class UploadDocument(BaseModel):
    """An upload. ``file`` is set once the upload is completed. Until then, ``parts``, Portico's addition, lists the
    received parts.
    """

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: Moment
    expires_at: Moment
    filename: str
    purpose: str
    status: UploadStatus
    file: File | None = None
    parts: list[UploadPart] = []


_PART = upload.declare_form(["data"], {"data": upload.FILE})


@router.post("")
async def create_upload(body: UploadRequest, services: TheServices, caller: Caller) -> UploadDocument:
    """Start an upload, which expires after an hour. The key must have a scope that can use files, as for
    `/v1/files`.
    """
    require_upload(caller)
    keep = None if body.expires_after is None else body.expires_after.seconds
    state = await services.uploads.begin(
        body.filename, body.purpose, body.bytes, body.mime_type, caller, file_keep_s=keep
    )
    return _upload(state)


@router.get("/{upload_id}")
async def retrieve_upload(upload_id: str, services: TheServices, caller: Caller) -> UploadDocument:
    """Return the progress of an upload, so that a client can continue it. This endpoint is not part of OpenAI's API."""
    return _upload(await services.uploads.get(upload_id, caller))


@router.post("/{upload_id}/parts", openapi_extra=_PART)
async def create_upload_part(
    upload_id: str, request: Request, services: TheServices, caller: Caller
) -> UploadPart:
    """Send a part of at most 64 MB. Parts can be sent in parallel and in any order."""
    row = await services.uploads.require_pending(upload_id, caller)
    form = await upload.read(request, services.files, "data", MAX_PART_BYTES)
    return _part(await services.uploads.add_part(row, form.received))


@router.post("/{upload_id}/complete")
async def complete_upload(
    upload_id: str, body: CompleteRequest, services: TheServices, caller: Caller
) -> UploadDocument:
    """Join the parts into a file, in the given order. If the upload is already completed, return it unchanged."""
    return _upload(await services.uploads.complete(upload_id, body.part_ids, body.md5, caller))


@router.post("/{upload_id}/cancel")
async def cancel_upload(upload_id: str, services: TheServices, caller: Caller) -> UploadDocument:
    """Cancel an upload and delete its parts."""
    return _upload(await services.uploads.cancel(upload_id, caller))


def _part(row: PartRow) -> UploadPart:
    return shaped(UploadPart, row)


def _upload(state: UploadState) -> UploadDocument:
    return shaped(
        UploadDocument,
        state.row,
        file=None if state.file is None else to_file(state.file),
        parts=[_part(row) for row in state.parts],
    )
