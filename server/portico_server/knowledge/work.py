"""The runs of the stores: what each kind does, and what a start of the daemon takes up again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from portico.wire import JSON
from portico_server.core.context import Context
from portico_server.db import archives, groups
from portico_server.db import stores as rows
from portico_server.db.database import Database
from portico_server.db.stores import StoreRow
from portico_server.knowledge.calibrate import Calibration
from portico_server.knowledge.contents import Contents
from portico_server.knowledge.following import Following, follows
from portico_server.knowledge.index.manager import IndexManager
from portico_server.knowledge.ingest import Ingest
from portico_server.knowledge.made.making import Making
from portico_server.knowledge.model_change import ModelChange
from portico_server.knowledge.reindex import Reindex
from portico_server.knowledge.store import is_expired
from portico_server.runs.scheduler import Scheduler


class Work:
    """Carries out ``ingest``, ``sync``, ``embed``, ``reindex`` and ``calibrate``. ``changed`` is called when a store is
    another.
    """

    def __init__(
        self,
        database: Database,
        scheduler: Scheduler,
        indexes: IndexManager,
        ingest: Ingest,
        following: Following,
        contents: Contents,
        making: Making,
        calibration: Calibration,
        changed: Callable[[], None],
    ) -> None:
        self._database = database
        self._scheduler = scheduler
        self._indexes = indexes
        self._ingest = ingest
        self._following = following
        self._contents = contents
        self._making = making
        self._calibration = calibration
        self._models = ModelChange(database, ingest)
        self._reindex = Reindex(database, indexes, ingest)
        self._changed = changed

    async def start(self) -> list[str]:
        """Take up what was interrupted and look at what is followed again; the ids of the runs that do so.

        What was made of the files of expired stores is deleted.
        """
        self._scheduler.handle("ingest", self._run_ingest, concurrency=2)
        self._scheduler.handle("sync", self._run_sync, concurrency=2)
        self._scheduler.handle("embed", self._run_embed)
        self._scheduler.handle("reindex", self._run_reindex)
        self._scheduler.handle("calibrate", self._run_calibrate, owned=True)
        found = await self._database.read(rows.visible, None, everyone=True)
        for gone in await self._indexes.sweep({row.id for row in found}):
            # An import that was cut off may have left chunks.
            await self._database.write(archives.give_up, gone)
        unfinished = {
            *await self._database.read(rows.unfinished),
            *await self._database.read(groups.unfinished),
        }
        begun = []
        for row in found:
            if is_expired(row):
                await self._database.write(rows.free, row.id)
                continue
            await self._indexes.renew(row.id, row.embedding_model)
            self._following.follow(row)
            if follows(row) and not row.paused:
                begun.append(await self._following.sync(row))  # which also indexes what waits
            elif row.id in unfinished:
                begun.append(await self._contents.queue(row))
            if row.next_embedding_model is not None:
                begun.append(await self._scheduler.ensure("embed", row.id, {"store": row.id}))
        return begun

    async def _row(self, payload: Mapping[str, Any]) -> StoreRow | None:
        return await self._database.read(rows.get, str(payload["store"]))

    async def _run_ingest(self, payload: Mapping[str, Any], context: Context) -> JSON:
        row = await self._row(payload)
        if row is None:
            return {}
        result = await self._ingest.run(row, context)
        await self._making.go_on(row.id)
        return result

    async def _run_sync(self, payload: Mapping[str, Any], context: Context) -> JSON:
        row = await self._row(payload)
        if row is None or not follows(row):
            return {}
        result = await self._following.run(row, context)
        await self._making.go_on(row.id)
        return result

    async def _run_embed(self, payload: Mapping[str, Any], context: Context) -> JSON:
        row = await self._row(payload)
        result = {} if row is None else await self._models.run(row, context)
        self._changed()
        return result

    async def _run_reindex(self, payload: Mapping[str, Any], context: Context) -> JSON:
        row = await self._row(payload)
        return {} if row is None else await self._reindex.run(row, context, files=bool(payload.get("files")))

    async def _run_calibrate(self, payload: Mapping[str, Any], context: Context) -> JSON:
        row = await self._row(payload)
        return {} if row is None else await self._calibration.run(row, payload, context)
