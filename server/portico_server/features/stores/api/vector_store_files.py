"""``/v1/vector_stores/{store}/files``: the files of a store."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel

from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.shapes import Page
from portico_server.features.stores.api import vector_store_shapes as shapes
from portico_server.features.stores.api.vector_stores import Limit, Order
from portico_server.features.stores.contents import FileToAttach
from portico_server.features.stores.store import FileStatus

router = new_router(prefix="/v1/vector_stores/{store}/files", tags=["OpenAI: vector stores"])


class VectorStoreFileRequest(BaseModel):
    """A file to add to a vector store."""

    file_id: str
    attributes: dict[str, Any] | None = None
    chunking_strategy: dict[str, Any] | None = None

    def attachment(self) -> FileToAttach:
        return FileToAttach(self.file_id, self.attributes, self.chunking_strategy)


class FileChange(BaseModel):
    """New attributes for a file."""

    attributes: dict[str, Any] | None


@router.post("")
async def create_vector_store_file(
    store: str, body: VectorStoreFileRequest, services: TheServices, caller: Caller
) -> shapes.VectorStoreFile:
    """Add a file to a vector store. It is indexed in the background."""
    row = await services.stores.get(store, caller, "write")
    [file_row] = await services.stores.contents.attach(row, [body.attachment()], caller)
    return shapes.vector_store_file(file_row)


@router.get("")
async def list_vector_store_files(
    store: str,
    services: TheServices,
    caller: Caller,
    limit: Limit = 20,
    order: Order = "desc",
    after: str | None = None,
    before: str | None = None,
    status: Annotated[FileStatus | None, Query(alias="filter")] = None,
) -> Page[shapes.VectorStoreFile]:
    """Return the files of a vector store, newest first."""
    row = await services.stores.get(store, caller)
    page = await services.stores.contents.list(
        row, after=after, before=before, limit=limit, order=order, status=status
    )
    return Page.of([shapes.vector_store_file(item) for item in page.data], page.has_more)


@router.get("/{file_id}")
async def retrieve_vector_store_file(
    store: str, file_id: str, services: TheServices, caller: Caller
) -> shapes.VectorStoreFile:
    """Return one file of a vector store."""
    row = await services.stores.get(store, caller)
    return shapes.vector_store_file(await services.stores.contents.get(row, file_id))


@router.post("/{file_id}")
async def update_vector_store_file(
    store: str, file_id: str, change: FileChange, services: TheServices, caller: Caller
) -> shapes.VectorStoreFile:
    """Replace the attributes of a file."""
    row = await services.stores.get(store, caller, "write")
    return shapes.vector_store_file(
        await services.stores.contents.set_attributes(row, file_id, change.attributes)
    )


@router.delete("/{file_id}")
async def delete_vector_store_file(
    store: str, file_id: str, services: TheServices, caller: Caller
) -> shapes.Deleted:
    """Remove a file from a vector store. The uploaded file is kept."""
    row = await services.stores.get(store, caller, "write")
    await services.stores.contents.detach(row, file_id)
    return shapes.Deleted(id=file_id, object="vector_store.file.deleted")


@router.get("/{file_id}/content")
async def read_vector_store_file(
    store: str, file_id: str, services: TheServices, caller: Caller
) -> shapes.TextPage:
    """Return the text extracted from a file."""
    row = await services.stores.get(store, caller)
    parts = await services.stores.contents.text(row, file_id)
    return shapes.TextPage(data=[shapes.VectorFileText(text=part.text) for part in parts])
