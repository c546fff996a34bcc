"""Stores as files: out as a stream, in as a whole."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Protocol

from portico_server.core.errors import Conflict
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry, owner_of
from portico_server.db import stores as rows
from portico_server.db.database import Database
from portico_server.db.names import claim_of
from portico_server.db.stores import StoreRow
from portico_server.knowledge.archive.door import StoreArchiveReader
from portico_server.knowledge.archive.export import Export
from portico_server.knowledge.archive.restore import Restore
from portico_server.knowledge.files import FileStorage
from portico_server.knowledge.index.manager import IndexManager
from portico_server.knowledge.names import check_store_name
from portico_server.knowledge.store import StoreView, view


class Shelf(Protocol):
    """What the stores do for one that comes from elsewhere."""

    def embedding(self, wanted: str | None) -> str: ...

    async def arrived(self, row: StoreRow, model: str) -> str | None:
        """Serve a store that is there now; ``model``: the one of which vectors are to be made, "" for none."""
        ...


class Portable:
    """Works on a `StoreView` that `Stores.get` has handed out for ``read``: rights were checked there."""

    def __init__(
        self, shelf: Shelf, database: Database, registry: Registry, files: FileStorage, indexes: IndexManager
    ) -> None:
        self._shelf = shelf
        self._database = database
        self._registry = registry
        self._files = files
        self._restore = Restore(database, files, indexes)

    def export(self, row: StoreView, *, vectors: bool = True) -> AsyncIterator[bytes]:
        """An archive of a store, piece by piece; ``vectors``: with those that it has.

        Raises `Forbidden` unless the caller may read every file.
        """
        row.require_whole()
        return Export(row, self._database, self._files, vectors=vectors).pieces()

    async def restore(self, path: Path, name: str, caller: Principal) -> tuple[StoreView, str | None]:
        """Make a store of an archive on disk, under its own name or under ``name``.

        Its vectors are taken over if their model is here; else those of the default one are made by the run whose id
        comes with the store. Raises `InvalidRequest` for what is no sound archive, `Conflict` if the name is taken.
        """
        archive = await self._restore.open(path)
        try:
            row = await self._row(archive, name, caller)
            keys = (f"store/{row.name}", row.name) if row.app else (f"store/{row.name}",)
            claim = partial(self._registry.claim, row.owner, *keys)
            await self._restore.run(archive, row, self._is_embedding, claim)
            model = archive.manifest.embedding_model
        finally:
            archive.close()
        if row.embedding_model or not model:
            wanted = ""
        else:
            wanted = model if self._is_embedding(model) else self._shelf.embedding(None)
        run = await self._shelf.arrived(row, wanted)
        arrived = await self._database.read(rows.get, row.id)
        return view(arrived or row, caller), run

    async def _row(self, archive: StoreArchiveReader, name: str, caller: Principal) -> StoreRow:
        said = archive.manifest
        name = check_store_name(name or said.name)
        caller.require(f"stores:{name}:manage")
        owner = owner_of(caller)
        async with self._registry.claim(owner, f"store/{name}"):  # or it fails before all of it is read
            pass
        here = said.vectors and self._is_embedding(said.embedding_model)
        now = time.time()
        return StoreRow(
            id=new_id("vs_"),
            name=name,
            description=said.description,
            owner=owner,
            folder=None,
            app=said.app and await self._is_free(name, owner),
            embedding_model=said.embedding_model if here else "",
            metadata=said.metadata,
            expires_after_days=said.expires_after_days,
            last_active_at=now,
            created_at=now,
            vector_weight=said.vector_weight if here else None,
            claim=claim_of(owner, name),
        )

    async def _is_free(self, name: str, owner: str | None) -> bool:
        """Whether the store's chat app can have its name."""
        try:
            async with self._registry.claim(owner, name):
                return True
        except Conflict:
            return False

    def _is_embedding(self, model: str) -> bool:
        found = self._registry.get(model) if model else None
        return found is not None and "embeddings" in found.card.capabilities
