"""Facts that agents remember, stored as short files in a store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from hashlib import sha256

from portico_server.core import pools
from portico_server.core.errors import NotFound
from portico_server.core.facts import StoredFact
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.db import facts
from portico_server.db.database import Database
from portico_server.db.facts import FACT_PREFIX, FactRow
from portico_server.knowledge.contents import FileToAttach
from portico_server.knowledge.files import FileStorage
from portico_server.knowledge.filter import implied
from portico_server.knowledge.store import view
from portico_server.knowledge.stores import StoreService

_CREATED = "created_at"


class StoredFacts:
    """A `portico_server.core.interfaces.FactStore` that stores each fact as a file, so that searches find the fact.

    The store's API also lists these files. The bytes of a file never change: a changed fact is stored as a new file
    with the previous attributes and fact id.
    """

    def __init__(self, database: Database, stores: StoreService, files: FileStorage) -> None:
        self._database = database
        self._stores = stores
        self._files = files

    async def add(
        self,
        store: str,
        texts: Sequence[str],
        attributes: Mapping[str, str | float | bool],
        caller: Principal,
    ) -> None:
        row = await self._stores.get(store, caller, "write")
        implied_attributes = (
            {} if row.condition is None else implied(row.condition)
        )  # without the attributes that the key's filter requires, the caller could not recall the fact
        attachments = [
            FileToAttach(
                await self._keep(text, caller), {**implied_attributes, **attributes, "id": new_id("fact_")}
            )
            for text in texts
        ]
        await self._stores.contents.attach(row, attachments, caller)

    async def list(
        self,
        caller: Principal,
        *,
        store: str | None = None,
        where: Mapping[str, str] | None = None,
        limit: int = 100,
    ) -> Sequence[StoredFact]:
        within = None if store is None else (await self._stores.get(store, caller)).id
        fact_rows = await self._database.read(
            facts.newest_facts, caller.id, limit, store_id=within, where=where
        )
        store_views = {row.id: view(row, caller) for row in await self._stores.list(caller)}
        names = {row.id: row.name or row.id for row in store_views.values()}
        first: dict[str, FactRow] = {}
        for row in fact_rows:  # the newest file of a fact is its current version
            if row.store_id in store_views and store_views[row.store_id].permits(row.attributes):
                first.setdefault(row.id, row)
        return [await self._fact(row, names[row.store_id]) for row in first.values()]

    async def change(self, fact_id: str, text: str, caller: Principal) -> StoredFact:
        before = await self._rows_of(fact_id, caller)
        store = await self._stores.get(before[0].store_id, caller, "write")
        created_at = before[-1].attributes.get(_CREATED, before[-1].created_at)
        attributes = {**before[0].attributes, "id": before[0].id, _CREATED: created_at}
        attachment = FileToAttach(await self._keep(text, caller), attributes)
        await self._stores.contents.attach(store, [attachment], caller)
        for row in (
            before
            # the old file is removed only after the new file exists; after an interruption, both exist
            # and the newer file counts
        ):
            await self._forget(row, caller)
        (row, *_fact_rows) = await self._rows_of(fact_id, caller)
        return await self._fact(row, store.name or store.id)

    async def remove(self, fact_id: str, caller: Principal) -> None:
        for row in await self._rows_of(fact_id, caller):
            await self._forget(row, caller)

    async def _rows_of(self, fact_id: str, caller: Principal) -> Sequence[FactRow]:
        fact_rows = await self._database.read(facts.newest_facts, caller.id, 100, fact_id=fact_id)
        if not fact_rows:
            raise NotFound(f"Fact '{fact_id[:80]}' not found.", code="fact_not_found", param="id")
        return fact_rows

    async def _keep(self, text: str, caller: Principal) -> str:
        name = f"{FACT_PREFIX}{sha256(text.encode()).hexdigest()[:16]}.txt"
        return (
            await self._files.create(name, "assistants", _once(text.encode()), caller, owner=caller.id)
        ).id

    async def _forget(self, row: FactRow, caller: Principal) -> None:
        store = await self._stores.get(row.store_id, caller, "write")
        await self._stores.contents.detach(store, row.file_id)
        await self._files.delete(row.file_id, caller)

    async def _fact(self, row: FactRow, store: str) -> StoredFact:
        async with self._files.open(row.sha256) as path:
            data = await pools.FILES.run(path.read_bytes)
        created_at = float(row.attributes.get(_CREATED, row.created_at))
        return StoredFact(row.id, store, data.decode(), row.attributes, created_at, row.created_at)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
