"""Chunk groups that evaluations add to stores."""

from __future__ import annotations

from portico_server.core.errors import Conflict, EngineFailed
from portico_server.core.principal import Principal
from portico_server.features.stores.stores import StoreService
from portico_server.runs.run_end import RunEnds


class StoreGroups:
    """The `portico_server.features.evals.chunk_groups.ChunkGroups` of this daemon."""

    def __init__(self, stores: StoreService, ends: RunEnds) -> None:
        self._stores = stores
        self._ends = ends

    async def add(self, ref: str, name: str, chunker: str, caller: Principal) -> bool:
        store = await self._stores.get(ref, caller, "manage")
        try:
            _row, run_id = await self._stores.groups.add(
                store, name, chunking={"type": chunker}, caller=caller
            )
            is_new = True
        except Conflict:
            run_id, is_new = await self._stores.contents.queue(store), False
        row = await self._ends.wait(run_id)
        if row is None or row.status != "completed":
            error = (row.error if row is not None else None) or {}
            raise EngineFailed(
                f"The store '{ref}' could not be chunked again: {error.get('message', 'it was cancelled')}",
                code=error.get("code") or "chunking_failed",
            )
        return is_new

    async def remove(self, ref: str, name: str, caller: Principal) -> None:
        await self._stores.groups.remove(await self._stores.get(ref, caller, "manage"), name)
