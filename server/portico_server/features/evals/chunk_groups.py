"""Other chunks of a store, for evaluations; injected by the composition root."""

from __future__ import annotations

from typing import Protocol

from portico_server.core.principal import Principal


class ChunkGroups(Protocol):
    """Chunks stores in other ways, beside the chunks that they have."""

    async def add(self, ref: str, name: str, chunker: str, caller: Principal) -> bool:
        """Chunk all files of a store with ``chunker``, as the group ``name``, and wait until searches find the chunks.
        Return whether the group is new.

        Raises `NotFound`, `Forbidden` if the caller may not manage the store, and `EngineFailed` if it cannot be
        indexed.
        """

    async def remove(self, ref: str, name: str, caller: Principal) -> None:
        """Remove a group with its chunks. Raises the same errors as `add`."""
