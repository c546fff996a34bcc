"""``/v1/batches``: a file of requests that are answered while nobody waits, as OpenAI defines it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from portico_server.api.endpoint import Caller, TheParts
from portico_server.api.endpoint import new_router as new_router
from portico_server.api.openai import batch_shapes as shapes
from portico_server.api.openai.batch_shapes import Batch, BatchList, BatchWish

router = new_router(prefix="/v1/batches", tags=["OpenAI: batches"])


@router.post("")
async def create_batch(wish: BatchWish, parts: TheParts, caller: Caller) -> Batch:
    """Begin a batch. The lines of its file are checked in the background; look at its status."""
    row = await parts.batches.create(wish.input_file_id, wish.endpoint, wish.spec(), caller)
    return shapes.batch(row)


@router.get("")
async def list_batches(
    parts: TheParts,
    caller: Caller,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> BatchList:
    """The caller's batches, the newest first."""
    page = await parts.batches.list(caller, after=after, limit=limit)
    data = [shapes.batch(row) for row in page.data]
    return BatchList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=page.has_more,
    )


@router.get("/{batch_id}")
async def retrieve_batch(batch_id: str, parts: TheParts, caller: Caller) -> Batch:
    """One of them."""
    return shapes.batch(await parts.batches.get(batch_id, caller))


@router.post("/{batch_id}/cancel")
async def cancel_batch(batch_id: str, parts: TheParts, caller: Caller) -> Batch:
    """Ask nothing more; what is answered by then gets its file."""
    return shapes.batch(await parts.batches.cancel(batch_id, caller))
