"""The runs of stores: ingest, sync, reindex, calibrate, link, and change of the embedding model or the index. Resumed
at startup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from portico.wire import JSON
from portico_server.core import work_slots
from portico_server.core.context import Context
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.db import archives, groups, store_index
from portico_server.db import stores as rows
from portico_server.db.database import Database
from portico_server.db.runs import FOR
from portico_server.db.store_index import IndexName
from portico_server.db.stores import StoreRow
from portico_server.features.stores.calibrate import Calibration
from portico_server.features.stores.contents import StoreContents
from portico_server.features.stores.embedding import resolve_embedding_model
from portico_server.features.stores.follow import SourceFollower, follows
from portico_server.features.stores.generated import GroupGenerator
from portico_server.features.stores.index.manager import IndexManager
from portico_server.features.stores.index_change import IndexChange
from portico_server.features.stores.ingest import Ingest
from portico_server.features.stores.link_catch_up import LINK_RUN_KIND, LinkCatchUp
from portico_server.features.stores.model_change import ModelChange
from portico_server.features.stores.reindex import Reindex
from portico_server.features.stores.store import is_expired
from portico_server.features.stores.store_guards import StoreGuards
from portico_server.features.stores.write_queue import MAX_WAITING_FILES
from portico_server.runs.scheduler import Scheduler

MAX_RUNNING_INGESTS = 8
"""Maximum number of stores whose files are indexed at the same time. The stores of one key use at most half of them."""

MAX_RUNNING_CHANGES = 4
"""Maximum number of stores that are reindexed at the same time. The same maximum applies separately to linking,
calibrating, and changing the embedding model or the index. The stores of one key use at most half of them.
"""

MAX_RUNNING_SYNCS = 4
"""Maximum number of stores that are compared with their sources at the same time. The stores of one key use at most
half of them.
"""


class StoreJobs:
    """Runs ``ingest``, ``sync``, ``embed``, ``move``, ``link``, ``reindex`` and ``calibrate``.

    ``on_change`` is called when a store has changed.
    """

    def __init__(
        self,
        database: Database,
        scheduler: Scheduler,
        indexes: IndexManager,
        ingest: Ingest,
        following: SourceFollower,
        contents: StoreContents,
        making: GroupGenerator,
        calibration: Calibration,
        guards: StoreGuards,
        registry: Registry,
        on_change: Callable[[], None],
    ) -> None:
        self._database = database
        self._scheduler = scheduler
        self._indexes = indexes
        self._ingest = ingest
        self._following = following
        self._contents = contents
        self._making = making
        self._calibration = calibration
        self._guards = guards
        self._registry = registry
        self._models = ModelChange(database, ingest)
        self._moves = IndexChange(database, indexes)
        self._reindex = Reindex(database, indexes, ingest)
        self._links = LinkCatchUp(database, ingest.writing)
        self._on_change = on_change

    async def start(self) -> list[str]:
        """Resume interrupted work and sync followed sources again. Return the ids of the runs.

        The chunks of expired stores are deleted.
        """
        self._scheduler.handle("ingest", self._run_ingest, concurrency=MAX_RUNNING_INGESTS)
        self._scheduler.handle("sync", self._run_sync, concurrency=MAX_RUNNING_SYNCS, lent=True)
        self._scheduler.handle("embed", self._run_embed, concurrency=MAX_RUNNING_CHANGES)
        self._scheduler.handle("move", self._run_move, concurrency=MAX_RUNNING_CHANGES)
        self._scheduler.handle(LINK_RUN_KIND, self._run_link, concurrency=MAX_RUNNING_CHANGES)
        self._scheduler.handle("reindex", self._run_reindex, concurrency=MAX_RUNNING_CHANGES)
        self._scheduler.handle(
            "calibrate", self._run_calibrate, concurrency=MAX_RUNNING_CHANGES, is_owned=True
        )
        await self._database.write(store_index.leave_pgvector_on_sqlite)
        store_rows = await self._database.read(rows.visible, None, include_all=True)
        for store_id in await self._indexes.sweep({row.id for row in store_rows}):
            # The store is missing because its import was interrupted; the import may have left chunks.
            await self._database.write(archives.give_up, store_id)
        unfinished_stores = {
            *await self._database.read(rows.unfinished),
            *await self._database.read(groups.unfinished),
        }
        run_ids = []
        for row in store_rows:
            if is_expired(row):
                await self._database.write(rows.empty, row.id)
                continue
            await self._indexes.rebuild_if_outdated(row.id, row.embedding_model)
            self._following.follow(row)
            if follows(row) and not row.paused:
                run_ids.append(await self._following.sync(row))  # also indexes waiting files
            elif row.id in unfinished_stores or row.has_review:
                file_rows = await self._database.read(rows.waiting, row.id, 1)
                run_ids.append(await self._contents.queue(row, file_rows[0].whose if file_rows else None))
            if row.next_embedding_model is not None:
                run_ids.append(await self._scheduler.ensure("embed", row.id, row.work))
            if row.next_index is not None:
                run_ids.append(await self._scheduler.ensure("move", row.id, row.work))
            if row.linked_to is not None:
                run_ids.append(await self._scheduler.ensure(LINK_RUN_KIND, row.id, row.work))
        return run_ids

    async def check_change(self, row: StoreRow, *, model_name: str | None, index: IndexName | None) -> None:
        """Raise `InvalidRequest` if `change_model` or `move` would refuse these values; ``None`` changes nothing."""
        if model_name is not None:
            resolve_embedding_model(model_name, self._registry)
        if index is not None and (index, None) != (row.index, row.next_index):
            await self._database.write(store_index.require, index)

    async def change_model(self, row: StoreRow, model_name: str) -> str:
        """Change the embedding model of a store ("" for none), and return the id of the run that computes the new
        vectors.

        Until the run is complete, searches use the old vectors.
        """
        values = {"next_embedding_model": resolve_embedding_model(model_name, self._registry)}
        await self._database.write(rows.change, row.id, values)
        return await self._scheduler.ensure("embed", row.id, row.work)

    async def move(self, row: StoreRow, index: IndexName) -> str | None:
        """Move the vectors of a store to another index, and return the id of the run.

        Until the run is complete, searches use the old index. Returns ``None`` if the vectors already are in
        ``index``; an unfinished move then ends. Raises `InvalidRequest` if the daemon does not offer the index.
        """
        if index == row.index and row.next_index is None:
            return None
        await self._database.write(store_index.begin_move, row.id, index)
        self._on_change()
        return None if index == row.index else await self._scheduler.ensure("move", row.id, row.work)

    async def replace_model(self, old: str, new: str) -> list[str]:
        """Change the embedding model of every store that uses ``old``, and return the ids of the runs."""
        return [
            await self.change_model(row, new)
            for row in await self._database.read(rows.visible, None, include_all=True)
            if row.embedding_model == old and row.next_embedding_model is None and not is_expired(row)
        ]

    async def link(self, row: StoreRow, is_wanted: bool) -> str | None:
        """Enable or disable links between passages of a store that mention the same terms.

        Returns the id of the run that updates existing passages, or ``None`` if the setting is unchanged. Passages
        that are added in the meantime are linked when they are indexed.
        """
        if row.links == is_wanted and row.linked_to is None:
            return None
        if row.links != is_wanted:
            await self._database.write(rows.change, row.id, {"links": is_wanted, "linked_to": 0})
            self._on_change()
        return await self._scheduler.ensure(LINK_RUN_KIND, row.id, row.work)

    async def calibrate(self, row: StoreRow, caller: Principal, request: Mapping[str, Any]) -> str:
        """Measure how much a store's vectors improve its search, see `Calibration`. Return the id of the run, which
        ``caller`` owns.

        ``request`` contains either ``questions``, or ``generate`` and ``model``, and optionally ``apply``. Raises
        `InvalidRequest`.
        """
        self._calibration.check(row, request)
        run = await self._scheduler.begin("calibrate", row.id, {**request, "store": row.id}, caller)
        return run.id

    async def reindex(self, row: StoreRow, *, files: bool = False) -> str:
        """Queue a `portico_server.features.stores.reindex.Reindex`, and return the id of the run."""
        return await self._scheduler.ensure("reindex", row.id, {**row.work, "files": files})

    async def _row(self, payload: Mapping[str, Any]) -> StoreRow | None:
        return await self._database.read(rows.get, str(payload["store"]))

    async def _run_ingest(self, payload: Mapping[str, Any], context: Context) -> JSON:
        row = await self._row(payload)
        if row is None:
            return {}
        work_slots.KEY.set(str(payload.get(FOR) or ""))
        result = await self._ingest.run(row, context)
        await self._making.resume(row)
        return await self._with_check(row, result, context)

    async def _run_sync(self, payload: Mapping[str, Any], context: Context) -> JSON:
        row = await self._row(payload)
        if row is None or not follows(row):
            return {}
        work_slots.KEY.set(row.owner or "")
        result = await self._following.run(row, context)
        for owner in {
            file_row.whose for file_row in await self._database.read(rows.waiting, row.id, MAX_WAITING_FILES)
        }:
            await self._contents.queue(row, owner)  # queued only if no other run indexes the uploaded files
        await self._making.resume(row)
        return await self._with_check(row, result, context)

    async def _with_check(self, row: StoreRow, result: JSON, context: Context) -> JSON:
        """Check the change of a store with its guard questions. Return the result of the run with the summary."""
        assert isinstance(result, dict)
        return result | await self._guards.check(row, context, is_repeated=bool(result.get("indexed")))

    async def _run_embed(self, payload: Mapping[str, Any], context: Context) -> JSON:
        row = await self._row(payload)
        work_slots.KEY.set(str(payload.get(FOR) or ""))
        result = {} if row is None else await self._models.run(row, context)
        self._on_change()
        return result

    async def _run_move(self, payload: Mapping[str, Any], context: Context) -> JSON:
        row = await self._row(payload)
        work_slots.KEY.set(str(payload.get(FOR) or ""))
        result = {} if row is None else await self._moves.run(row, context)
        self._on_change()
        return result

    async def _run_link(self, payload: Mapping[str, Any], context: Context) -> JSON:
        work_slots.KEY.set(str(payload.get(FOR) or ""))
        return await self._links.run(str(payload["store"]), context)

    async def _run_reindex(self, payload: Mapping[str, Any], context: Context) -> JSON:
        row = await self._row(payload)
        work_slots.KEY.set(str(payload.get(FOR) or ""))
        return {} if row is None else await self._reindex.run(row, context, files=bool(payload.get("files")))

    async def _run_calibrate(self, payload: Mapping[str, Any], context: Context) -> JSON:
        row = await self._row(payload)
        return {} if row is None else await self._calibration.run(row, payload, context)
