"""The runs of the stores: ingest, sync, reindex, calibrate, link, change of the embedding model; resumed at startup."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from portico.wire import JSON, Status
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.db import archives, chunks, groups, links
from portico_server.db import stores as rows
from portico_server.db.changes import DEFAULT_GROUP
from portico_server.db.database import Database
from portico_server.db.links import NewLink
from portico_server.db.runs import FOR
from portico_server.db.stores import StoreRow
from portico_server.knowledge.calibrate import Calibration
from portico_server.knowledge.contents import StoreContents
from portico_server.knowledge.follow import SourceFollower, follows
from portico_server.knowledge.generated import GroupGenerator
from portico_server.knowledge.index.manager import IndexManager
from portico_server.knowledge.ingest import MAX_WAITING_FILES, Ingest
from portico_server.knowledge.model_calls import embed_texts
from portico_server.knowledge.store import is_expired
from portico_server.runs.scheduler import Scheduler

# The indexes of a store from zero; if wanted, its files read again before.


class Reindex:
    """Nothing is lost by it: indexes are derived from SQL. Searches wait meanwhile, or are asked to come back."""

    def __init__(self, database: Database, indexes: IndexManager, ingest: Ingest) -> None:
        self._database = database
        self._indexes = indexes
        self._ingest = ingest

    async def run(self, store: StoreRow, context: Context, *, files: bool) -> JSON:
        """Rebuild what is searched of all groups; how many groups.

        With ``files`` all files are read first: those that failed, and those that would be cut otherwise now, get other
        chunks in the group that every store has.
        """
        result: dict[str, JSON] = {}
        await self._indexes.reset(store.id)
        if files:
            with self._ingest.rereading(store.id):
                await self._database.write(rows.wait_again, store.id)
                read = await self._ingest.run(store, context)
            assert isinstance(read, dict)
            result |= read
        models = {DEFAULT_GROUP: store.embedding_model}
        for group in await self._database.read(groups.of_store, store.id):
            models[group.name] = group.model(store.embedding_model)
        for name, model in models.items():
            await self._indexes.ready(store.id, model, context.emit, name)
        return {**result, "groups": len(models)}


# Another embedding model for a store: its vectors are made in the background while the old ones answer.


MAX_BATCH_CHUNKS = 1_000
"""Chunks whose vectors are made and written together."""


class ModelChange:
    """Makes the vectors of a store's ``next_embedding_model``, then lets it take the place of the old one.

    Both models' vectors lie side by side until then, so that an interrupted run continues where it was.
    """

    def __init__(self, database: Database, ingest: Ingest) -> None:
        self._database = database
        self._ingest = ingest

    async def run(self, store: StoreRow, context: Context) -> JSON:
        """Embed, switch, and drop the old vectors; how many were made."""
        model = store.next_embedding_model
        if model is None:
            return {}
        made = 0
        if model not in ("", store.embedding_model):
            made = await self._fill(store, model, context)
        # Whatever was indexed meanwhile has vectors of the old model: nothing may come in between now.
        async with self._ingest.writing(store.id):
            now = await self._database.read(rows.get, store.id)
            if now is None or now.next_embedding_model != model:
                return {"embedded": made}  # deleted, or changed again: another run sees to it
            if model not in ("", now.embedding_model):
                made += await self._fill(now, model, context)
            values = {"embedding_model": model, "next_embedding_model": None}
            await self._database.write(rows.change, store.id, values)
            if now.embedding_model not in ("", model):
                await self._drop(now)
        return {"embedded": made}

    async def _fill(self, store: StoreRow, model: str, context: Context) -> int:
        """Vectors of ``model`` for every chunk that has none; how many."""
        made = 0
        wanted = await self._chunks(store)
        for i in range(0, len(wanted), MAX_BATCH_CHUNKS):
            part = wanted[i : i + MAX_BATCH_CHUNKS]
            lacking = await self._database.read(chunks.chunks_without_vector, model, part)
            fresh = await embed_texts([text for _, text in lacking], model, context)
            data = {chunk: vector for (chunk, _), vector in zip(lacking, fresh, strict=True)}
            await self._database.write(chunks.add_vectors, model, data)
            made += len(data)
            await context.emit(
                Status(
                    "embed",
                    model,
                    done=min(i + MAX_BATCH_CHUNKS, len(wanted)),
                    total=len(wanted),
                    unit="chunks",
                )
            )
        return made

    async def _drop(self, store: StoreRow) -> None:
        wanted = await self._chunks(store)
        for i in range(0, len(wanted), MAX_BATCH_CHUNKS):
            await self._database.write(
                chunks.drop_vectors, store.embedding_model, wanted[i : i + MAX_BATCH_CHUNKS]
            )

    async def _chunks(self, store: StoreRow) -> list[int]:
        """The chunks of all groups that have the store's own model."""
        names = [DEFAULT_GROUP]
        for row in await self._database.read(groups.of_store, store.id):
            if row.embedding_model is None:
                names.append(row.name)
        found: list[int] = []
        for name in names:
            found += await self._database.read(chunks.ids, store.id, name)
        return found


MAX_RUNNING_INGESTS = 8
"""Stores whose files are indexed at a time; of the stores of one key half as many."""

MAX_RUNNING_CHANGES = 4
"""Stores that are reindexed, linked, calibrated, or given another embedding model at a time, of each; of the stores
of one key half as many."""

MAX_RUNNING_SYNCS = 4
"""Stores that are compared with what they follow at a time; of the stores of one key half as many."""


class StoreJobs:
    """Carries out ``ingest``, ``sync``, ``embed``, ``link``, ``reindex`` and ``calibrate``. ``changed`` is called
    when a store is another.
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
        self._links = LinkCatchUp(database, ingest.writing)
        self._changed = changed

    async def start(self) -> list[str]:
        """Take up what was interrupted and look at what is followed again; the ids of the runs that do so.

        What was made of the files of expired stores is deleted.
        """
        self._scheduler.handle("ingest", self._run_ingest, concurrency=MAX_RUNNING_INGESTS)
        self._scheduler.handle("sync", self._run_sync, concurrency=MAX_RUNNING_SYNCS, lent=True)
        self._scheduler.handle("embed", self._run_embed, concurrency=MAX_RUNNING_CHANGES)
        self._scheduler.handle(LINK_RUN_KIND, self._run_link, concurrency=MAX_RUNNING_CHANGES)
        self._scheduler.handle("reindex", self._run_reindex, concurrency=MAX_RUNNING_CHANGES)
        self._scheduler.handle("calibrate", self._run_calibrate, concurrency=MAX_RUNNING_CHANGES, owned=True)
        found = await self._database.read(rows.visible, None, everyone=True)
        for gone in await self._indexes.sweep({row.id for row in found}):
            # An import that was cut off may have left chunks.
            await self._database.write(archives.give_up, gone)
        unfinished = {
            *await self._database.read(rows.unfinished),
            *await self._database.read(groups.unfinished),
        }
        run_ids = []
        for row in found:
            if is_expired(row):
                await self._database.write(rows.empty, row.id)
                continue
            await self._indexes.rebuild_if_outdated(row.id, row.embedding_model)
            self._following.follow(row)
            if follows(row) and not row.paused:
                run_ids.append(await self._following.sync(row))  # which also indexes what waits
            elif row.id in unfinished:
                waiting = await self._database.read(rows.waiting, row.id, 1)
                run_ids.append(await self._contents.queue(row, waiting[0].whose if waiting else None))
            if row.next_embedding_model is not None:
                run_ids.append(await self._scheduler.ensure("embed", row.id, row.work))
            if row.linked_to is not None:
                run_ids.append(await self._scheduler.ensure(LINK_RUN_KIND, row.id, row.work))
        return run_ids

    async def _row(self, payload: Mapping[str, Any]) -> StoreRow | None:
        return await self._database.read(rows.get, str(payload["store"]))

    async def _run_ingest(self, payload: Mapping[str, Any], context: Context) -> JSON:
        row = await self._row(payload)
        if row is None:
            return {}
        pools.KEY.set(str(payload.get(FOR) or ""))
        result = await self._ingest.run(row, context)
        await self._making.resume(row)
        return result

    async def _run_sync(self, payload: Mapping[str, Any], context: Context) -> JSON:
        row = await self._row(payload)
        if row is None or not follows(row):
            return {}
        pools.KEY.set(row.owner or "")
        result = await self._following.run(row, context)
        for whose in {
            one.whose for one in await self._database.read(rows.waiting, row.id, MAX_WAITING_FILES)
        }:
            await self._contents.queue(row, whose)  # what was uploaded, if nobody works on it
        await self._making.resume(row)
        return result

    async def _run_embed(self, payload: Mapping[str, Any], context: Context) -> JSON:
        row = await self._row(payload)
        pools.KEY.set(str(payload.get(FOR) or ""))
        result = {} if row is None else await self._models.run(row, context)
        self._changed()
        return result

    async def _run_link(self, payload: Mapping[str, Any], context: Context) -> JSON:
        pools.KEY.set(str(payload.get(FOR) or ""))
        return await self._links.run(str(payload["store"]), context)

    async def _run_reindex(self, payload: Mapping[str, Any], context: Context) -> JSON:
        row = await self._row(payload)
        pools.KEY.set(str(payload.get(FOR) or ""))
        return {} if row is None else await self._reindex.run(row, context, files=bool(payload.get("files")))

    async def _run_calibrate(self, payload: Mapping[str, Any], context: Context) -> JSON:
        row = await self._row(payload)
        return {} if row is None else await self._calibration.run(row, payload, context)


LINK_RUN_KIND = "link"
"""The kind of these runs."""

MAX_LINKED_CHUNKS = 500
"""Chunks whose links are found and written together."""


class LinkCatchUp:
    """Makes or removes what `StoreRow.links` says. How far it is stands in the store's row, so that a run that was cut
    off continues there.
    """

    def __init__(
        self, database: Database, writing: Callable[[str], AbstractAsyncContextManager[None]]
    ) -> None:
        self._database = database
        self._writing = writing

    async def run(self, store_id: str, context: Context) -> JSON:
        """Bring all chunks of a store in line with its setting; how many were looked at."""
        async with self._writing(store_id):
            pass  # an ingest that began under the old setting has ended; later ones know the new one
        done = 0
        while (store := await self._database.read(rows.get, store_id)) and store.linked_to is not None:
            wanted = await self._database.read(chunks.ids, store_id)
            at = bisect_right(wanted, store.linked_to)
            total = done + len(wanted) - at
            while part := list(wanted[at : at + MAX_LINKED_CHUNKS]):
                named: Mapping[int, Sequence[NewLink]] = {}
                if store.links:
                    texts = await self._database.read(chunks.indexed_texts, part)
                    named = await pools.INDEX.run(_named, store_id, texts)
                if not await self._database.write(links.catch_up, store_id, part, named, keep=store.links):
                    break  # changed again
                at += len(part)
                done += len(part)
                await context.emit(Status("link", "", done=done, total=total, unit="chunks"))
            else:
                await self._database.write(links.caught_up, store_id, keep=store.links)
        return {"linked": done}


def _named(
    store_id: str, texts: Sequence[tuple[int, str, str, str, str, int]]
) -> Mapping[int, Sequence[NewLink]]:
    from portico_server.knowledge.links.rules import LinkSource, new_links  # which loads dictionaries

    return {
        chunk: new_links(
            store_id,
            LinkSource(text, heading.split("\n") if heading else (), file_id, name, first=ordinal == 0),
        )
        for chunk, file_id, text, heading, name, ordinal in texts
    }
