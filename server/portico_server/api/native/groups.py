"""``/api/stores/{store}/groups``: the same files cut in other ways, in a tree."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel

from portico_server.api.depends import Caller, TheParts
from portico_server.api.native.stores import Begun, Gone
from portico_server.api.router import router as new_router

router = new_router(prefix="/api/stores/{store}/groups", tags=["Stores"])


class GroupWish(BaseModel):
    """A group to be made. ``CoarseChunk``, ``MediumChunk`` and ``FineChunk`` need no more than their name."""

    name: str
    chunking_strategy: dict[str, Any] | None = None
    parent: str | None = None
    """The group in whose chunks these lie."""
    embedding_model: str | None = None
    """Left out, the store's own; empty, none."""


class Group(BaseModel):
    """A group, and how many files are in it, cannot be, and wait."""

    name: str
    parent: str
    chunking: dict[str, Any]
    embedding_model: str
    completed: int
    failed: int
    waiting: int
    chunks: int
    errors: list[tuple[str, str]]
    """Files that cannot be in it, as (name, why); 100 of the store at most."""


class GroupList(BaseModel):
    """The groups of a store, its own first."""

    data: list[Group]


class Retried(BaseModel):
    """The ids of the runs that try again, none if nothing had failed."""

    runs: list[str]


@router.get("")
async def list_groups(store: str, parts: TheParts, caller: Caller) -> GroupList:
    """The groups of a store."""
    row = await parts.stores.get(store, caller)
    [info] = await parts.stores.describe([row], caller)
    found = await parts.stores.groups.list(row, info.counts.completed)
    return GroupList(data=[Group(**asdict(group)) for group in found])


@router.post("")
async def add_group(store: str, wish: GroupWish, parts: TheParts, caller: Caller) -> Begun:
    """Make a group of all files, in the background; the store serves as before meanwhile."""
    row = await parts.stores.get(store, caller, "manage")
    model = wish.embedding_model
    _, run = await parts.stores.groups.add(
        row,
        wish.name,
        chunking=wish.chunking_strategy,
        parent=wish.parent,
        embedding_model=None if model is None else parts.stores.embedding(model),
        caller=caller,
    )
    return Begun(run=run)


@router.post("/retry")
async def retry_groups(store: str, parts: TheParts, caller: Caller) -> Retried:
    """Try the files again that could not be in a group. What a model has written of them is kept."""
    row = await parts.stores.get(store, caller, "manage")
    return Retried(runs=await parts.stores.groups.retry(row))


@router.delete("/{group}")
async def remove_group(store: str, group: str, parts: TheParts, caller: Caller) -> Gone:
    """Remove a group with its chunks."""
    await parts.stores.groups.remove(await parts.stores.get(store, caller, "manage"), group)
    return Gone(id=group)
