"""``/api/stores/{store}/groups``: chunk groups, which split a store's files in several ways and form a tree."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from portico.schemas.chunks import ChunkGroup
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.shapes import Listed, RemovedId, StartedRun

router = new_router(prefix="/api/stores/{store}/groups", tags=["Stores"])


class GroupRequest(BaseModel, extra="forbid"):
    """A group to create. For ``CoarseChunk``, ``MediumChunk`` and ``FineChunk``, the name is enough."""

    name: str
    chunking_strategy: dict[str, Any] | None = None
    parent: str | None = None
    """The group whose chunks contain the chunks of this group."""
    embedding_model: str | None = None
    """Embedding model of the group; by default the store's model; an empty string means none."""


class Retried(BaseModel):
    """The ids of the runs that retry the files; empty if no file had failed."""

    runs: list[str]


@router.get("")
async def list_groups(store: str, services: TheServices, caller: Caller) -> Listed[ChunkGroup]:
    """List the chunk groups of a store, its default group first."""
    row = await services.stores.get(store, caller)
    [info] = await services.stores.describe([row], caller)
    chunk_groups = await services.stores.groups.list(row, info.counts.completed)
    return Listed(data=list(chunk_groups))


@router.post("")
async def add_group(store: str, body: GroupRequest, services: TheServices, caller: Caller) -> StartedRun:
    """Add all files of the store to a new group in the background; meanwhile searches work as before."""
    row = await services.stores.get(store, caller, "manage")
    model = body.embedding_model
    _, run = await services.stores.groups.add(
        row,
        body.name,
        chunking=body.chunking_strategy,
        parent=body.parent,
        embedding_model=None if model is None else services.stores.embedding(model),
        caller=caller,
    )
    return StartedRun(run=run)


@router.post("/retry")
async def retry_groups(store: str, services: TheServices, caller: Caller) -> Retried:
    """Retry the files that could not be added to a group. Text that a model already wrote about these files is
    reused.
    """
    row = await services.stores.get(store, caller, "manage")
    return Retried(runs=await services.stores.groups.retry(row))


@router.delete("/{group}")
async def remove_group(store: str, group: str, services: TheServices, caller: Caller) -> RemovedId:
    """Remove a group and its chunks."""
    await services.stores.groups.remove(await services.stores.get(store, caller, "manage"), group)
    return RemovedId(id=group)
