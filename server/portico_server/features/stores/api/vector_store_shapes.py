"""Vector stores, their files and batches in OpenAI's format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from portico.schemas.stores import FileCounts
from portico.wire import Passage
from portico_server.api.shapes import Moment, RemovedObject, shaped
from portico_server.core.passage import location_of
from portico_server.features.stores.store import FileBatchRow, StoreFileRow, StoreInfo

Attribute = str | float | bool


class StoreExpiry(BaseModel):
    """When a vector store expires: ``days`` after its last use."""

    anchor: Literal["last_active_at"]
    days: int = Field(ge=1, le=365)


class VectorStore(BaseModel):
    """A vector store. Times are in seconds since 1970; ``description``, ``folder`` and ``embedding_model`` are
    Portico's additions.
    """

    id: str
    object: Literal["vector_store"] = "vector_store"
    created_at: Moment
    name: str
    description: str
    usage_bytes: int
    file_counts: FileCounts
    status: Literal["expired", "in_progress", "completed"]
    expires_after: StoreExpiry | None = None
    expires_at: Moment | None = None
    last_active_at: Moment
    metadata: dict[str, str]
    folder: str | None
    embedding_model: str


class LastError(BaseModel):
    """Why a file could not be indexed."""

    code: Literal["server_error", "unsupported_file", "invalid_file"]
    message: str


class VectorStoreFile(BaseModel):
    """A file in a vector store. ``filename`` is Portico's addition."""

    id: str
    object: Literal["vector_store.file"] = "vector_store.file"
    usage_bytes: int
    created_at: Moment
    vector_store_id: str
    status: Literal["in_progress", "completed", "cancelled", "failed"]
    last_error: LastError | None = None
    chunking_strategy: dict[str, Any]
    attributes: dict[str, Attribute]
    filename: str


class FileBatch(BaseModel):
    """Files that were added to a vector store together."""

    id: str
    object: Literal["vector_store.files_batch"] = "vector_store.files_batch"
    created_at: Moment
    vector_store_id: str
    status: Literal["in_progress", "completed", "cancelled", "failed"]
    file_counts: FileCounts


class Deleted(RemovedObject):
    """The deleted object."""

    object: Literal["vector_store.deleted", "vector_store.file.deleted"]


class VectorFileText(BaseModel):
    """A piece of text."""

    type: Literal["text"] = "text"
    text: str


class Hit(BaseModel):
    """One search result. ``rank`` and ``place`` (page, line, heading, row, offsets) are Portico's additions."""

    file_id: str
    filename: str
    score: float
    attributes: dict[str, Attribute]
    content: list[VectorFileText]
    rank: int
    place: dict[str, Any]


class HitPage(BaseModel):
    """Search results in rank order."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[Hit]
    has_more: bool = False
    next_page: str | None = None


class TextPage(BaseModel):
    """The text extracted from a file, one piece per page or section."""

    object: Literal["vector_store.file_content.page"] = "vector_store.file_content.page"
    data: list[VectorFileText]
    has_more: bool = False
    next_page: str | None = None


def vector_store(info: StoreInfo) -> VectorStore:
    """Return a store in OpenAI's format."""
    row = info.row
    days = row.expires_after_days
    return shaped(
        VectorStore,
        row,
        usage_bytes=info.usage_bytes,
        file_counts=info.counts,
        status=info.status,
        expires_after=None if days is None else {"anchor": "last_active_at", "days": days},
    )


def vector_store_file(row: StoreFileRow) -> VectorStoreFile:
    """Return a file of a store in OpenAI's format."""
    has_failed = row.status == "failed"
    static = row.chunking.get("type") == "static"
    return VectorStoreFile.model_validate(
        {
            "id": row.file_id,
            "usage_bytes": row.usage_bytes,
            "created_at": row.created_at,
            "vector_store_id": row.store_id,
            "status": row.status,
            "last_error": {"code": row.error_code, "message": row.error_message} if has_failed else None,
            # OpenAI's strategies are 'static', and 'other' for files that were chunked in another way.
            "chunking_strategy": row.chunking if static else {"type": "other"},
            "attributes": row.attributes,
            "filename": row.filename,
        }
    )


def batch(row: FileBatchRow, file_counts: FileCounts) -> FileBatch:
    """Return a batch in OpenAI's format. A batch has failed if it succeeded for none of its files."""
    if row.cancelled_at is not None:
        status = "cancelled"
    elif file_counts.in_progress:
        status = "in_progress"
    else:
        status = "failed" if file_counts.failed and not file_counts.completed else "completed"
    return FileBatch.model_validate(
        {
            "id": row.id,
            "created_at": row.created_at,
            "vector_store_id": row.store_id,
            "status": status,
            "file_counts": file_counts,
        }
    )


def hits(queries: Sequence[str], passages: Sequence[Passage]) -> HitPage:
    """Return passages in OpenAI's format for search results, in the given order."""
    return HitPage(
        search_query=list(queries),
        data=[
            Hit(
                file_id=passage.file_id,
                filename=passage.filename,
                score=passage.score,
                attributes=dict(passage.attributes),
                content=[VectorFileText(text=passage.text)],
                rank=rank,
                place=location_of(passage),
            )
            for rank, passage in enumerate(passages, start=1)
        ],
    )
