"""``/v1/vector_stores/{store}/file_batches``: batches of files that are added to a store together."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel

from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.shapes import Page
from portico_server.core.errors import InvalidRequest
from portico_server.features.stores.api import vector_store_shapes as shapes
from portico_server.features.stores.api.vector_store_files import VectorStoreFileRequest
from portico_server.features.stores.api.vector_stores import Limit, Order
from portico_server.features.stores.contents import FileToAttach
from portico_server.features.stores.store import FileStatus

router = new_router(prefix="/v1/vector_stores/{store}/file_batches", tags=["OpenAI: vector stores"])


class FileBatchRequest(BaseModel):
    """Files to add to a vector store together: ``file_ids`` with shared options, or ``files`` with individual
    options.
    """

    file_ids: list[str] | None = None
    files: list[VectorStoreFileRequest] | None = None
    attributes: dict[str, Any] | None = None
    chunking_strategy: dict[str, Any] | None = None


@router.post("")
async def create_file_batch(
    store: str, body: FileBatchRequest, services: TheServices, caller: Caller
) -> shapes.FileBatch:
    """Add several files to a vector store together."""
    if (body.file_ids is None) == (body.files is None):
        raise InvalidRequest("Give either 'file_ids' or 'files'.", param="file_ids")
    attachments = [
        *(FileToAttach(item, body.attributes, body.chunking_strategy) for item in body.file_ids or ()),
        *(item.attachment() for item in body.files or ()),
    ]
    row = await services.stores.get(store, caller, "write")
    batch_row = await services.stores.contents.attach_batch(row, attachments, caller)
    return shapes.batch(*await services.stores.contents.batch(row, batch_row.id))


@router.get("/{batch_id}")
async def retrieve_file_batch(
    store: str, batch_id: str, services: TheServices, caller: Caller
) -> shapes.FileBatch:
    """Return one batch of files, with its status."""
    row = await services.stores.get(store, caller)
    return shapes.batch(*await services.stores.contents.batch(row, batch_id))


@router.post("/{batch_id}/cancel")
async def cancel_file_batch(
    store: str, batch_id: str, services: TheServices, caller: Caller
) -> shapes.FileBatch:
    """Cancel the queued files of a batch."""
    row = await services.stores.get(store, caller, "write")
    return shapes.batch(*await services.stores.contents.cancel_batch(row, batch_id))


@router.get("/{batch_id}/files")
async def list_files_in_batch(
    store: str,
    batch_id: str,
    services: TheServices,
    caller: Caller,
    limit: Limit = 20,
    order: Order = "desc",
    after: str | None = None,
    before: str | None = None,
    status: Annotated[FileStatus | None, Query(alias="filter")] = None,
) -> Page[shapes.VectorStoreFile]:
    """Return the files of a batch, newest first."""
    row = await services.stores.get(store, caller)
    batch_row, _ = await services.stores.contents.batch(row, batch_id)
    page = await services.stores.contents.list(
        row, after=after, before=before, limit=limit, order=order, status=status, among=batch_row.file_ids
    )
    return Page.of([shapes.vector_store_file(item) for item in page.data], page.has_more)
