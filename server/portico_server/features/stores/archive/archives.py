"""Archives of stores: each archive is exported as a stream, and restored completely or not at all."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Protocol

from portico_server.core.errors import Conflict, InvalidRequest
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry, owner_of
from portico_server.db import archives
from portico_server.db import stores as rows
from portico_server.db.database import Database
from portico_server.db.names import claim_of
from portico_server.db.stores import StoreRow
from portico_server.features.files.files import FileStorage
from portico_server.features.stores.archive.layout import MAX_STORE_BLOBS
from portico_server.features.stores.archive.reader import StoreArchiveReader
from portico_server.features.stores.archive.restore import ArchiveRestore
from portico_server.features.stores.archive.writer import ArchiveWriter
from portico_server.features.stores.index.manager import IndexManager
from portico_server.features.stores.names import check_store_name
from portico_server.features.stores.store import StoreView, view
from portico_server.features.stores.store_claims import registry_keys


class StoreHost(Protocol):
    """The operations on stores that restoring an archive requires."""

    def embedding(self, model_name: str | None) -> str: ...

    async def serve_restored(self, row: StoreRow, model: str) -> str | None:
        """Serve a restored store. If ``model`` is not empty, compute the vectors with this embedding model.

        Return the id of the run that computes them, if any.
        """
        ...


class StoreArchives:
    """Exports and restores stores. The caller must get a `StoreView` from `Stores.get` for ``read``, which checks the
    rights.
    """

    def __init__(
        self,
        host: StoreHost,
        database: Database,
        registry: Registry,
        files: FileStorage,
        indexes: IndexManager,
    ) -> None:
        self._host = host
        self._database = database
        self._registry = registry
        self._files = files
        self._restore = ArchiveRestore(database, files, indexes)

    async def require_portable(self, row: StoreView) -> None:
        """Raise `InvalidRequest` if the store has too many files for an archive that can be imported."""
        count = await self._database.read(archives.count_blobs, row.id)
        if count > MAX_STORE_BLOBS:
            raise InvalidRequest(
                f"The store has {count:,} different files, but an archive can contain at most "
                f"{MAX_STORE_BLOBS:,}. Move some files to another store, or copy the whole home with "
                "'portico backup'.",
                code="store_too_large",
                param="store",
            )

    def export(self, row: StoreView, *, vectors: bool = True) -> AsyncIterator[bytes]:
        """Yield an archive of a store in pieces, including its vectors if ``vectors`` is set.

        Raises `Forbidden` unless the caller may read every file.
        """
        row.require_whole()
        return ArchiveWriter(row, self._database, self._files, vectors=vectors).pieces()

    async def open(self, path: Path) -> StoreArchiveReader:
        """Open an archive and validate its structure. The caller must close it. Raises `InvalidRequest`."""
        return await self._restore.open(path)

    async def restore(self, path: Path, name: str, caller: Principal) -> tuple[StoreView, str | None]:
        """Create a store from an archive on disk, named ``name`` or, if it is empty, as in the archive.

        If the embedding model is available, the vectors of the archive are kept. Otherwise, a run computes vectors
        with the default model, and its id is returned with the store. Raises `InvalidRequest` for an invalid archive,
        and `Conflict` if the name is in use.
        """
        archive = await self._restore.open(path)
        try:
            row = await self._row(archive, name, caller)
            claim = partial(self._registry.claims.hold, row.owner, *registry_keys(row))
            await self._restore.run(archive, row, self._is_embedding, claim)
            model = archive.manifest.embedding_model
        finally:
            archive.close()
        if row.embedding_model or not model:
            embedding_model = ""
        else:
            embedding_model = model if self._is_embedding(model) else self._host.embedding(None)
        run = await self._host.serve_restored(row, embedding_model)
        store_row = await self._database.read(rows.get, row.id)
        return view(store_row or row, caller), run

    async def _row(self, archive: StoreArchiveReader, name: str, caller: Principal) -> StoreRow:
        manifest = archive.manifest
        name = check_store_name(name or manifest.name)
        caller.require(f"stores:{name}:manage")
        owner = owner_of(caller)
        async with self._registry.claims.hold(
            owner, f"store/{name}"
        ):  # raises a conflict before the whole archive is read
            pass
        is_here = manifest.vectors and self._is_embedding(manifest.embedding_model)
        now = time.time()
        return StoreRow(
            id=new_id("vs_"),
            name=name,
            description=manifest.description,
            owner=owner,
            folder=None,
            app=manifest.app and await self._is_free(name, owner),
            answers=manifest.answers,
            embedding_model=manifest.embedding_model if is_here else "",
            metadata=manifest.metadata,
            expires_after_days=manifest.expires_after_days,
            last_active_at=now,
            created_at=now,
            vector_weight=manifest.vector_weight if is_here else None,
            claim=claim_of(owner, name),
            links=manifest.links,
            search=manifest.search,
            linked_to=0 if manifest.links else None,  # links are rebuilt from the chunks
        )

    async def _is_free(self, name: str, owner: str | None) -> bool:
        """Return whether the store's chat app can have this name."""
        try:
            async with self._registry.claims.hold(owner, name):
                return True
        except Conflict:
            return False

    def _is_embedding(self, model: str) -> bool:
        servable = self._registry.get(model) if model else None
        return servable is not None and "embeddings" in servable.card.capabilities
