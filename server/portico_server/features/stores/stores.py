"""Stores: named, searchable collections of files."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from portico.schemas.stores import StoreThemes, SyncPlan
from portico.wire import JSON
from portico_server.core.errors import Conflict, Forbidden, InvalidRequest, NotFound, nearest
from portico_server.core.fetching import Fetcher
from portico_server.core.ids import new_id
from portico_server.core.names import check_plain, has_controls
from portico_server.core.principal import SYSTEM, Principal
from portico_server.core.registry import Registry, owner_of
from portico_server.core.training_passages import StorePassage
from portico_server.db import chunks, store_index, store_skips
from portico_server.db import stores as rows
from portico_server.db.database import Database
from portico_server.db.rows import Order, RowPage
from portico_server.db.store_index import EMBEDDED, IndexName
from portico_server.db.store_skips import SkippedRows
from portico_server.db.stores import StoreRow, file_counts
from portico_server.features.files.files import FileStorage
from portico_server.features.files.uploaded_files import UploadedFiles
from portico_server.features.readers.pool import ReaderPool
from portico_server.features.readers.workers import DocumentWorkers
from portico_server.features.sources.rights import check_rights
from portico_server.features.stores.archive.archives import StoreArchives
from portico_server.features.stores.attachments import AttachmentReader
from portico_server.features.stores.calibrate import Calibration, require_vectors
from portico_server.features.stores.contents import StoreContents
from portico_server.features.stores.embedding import resolve_embedding_model
from portico_server.features.stores.follow import SourceFollower, existing_folder, follows, follows_nothing
from portico_server.features.stores.generated import GroupGenerator
from portico_server.features.stores.groups import Groups
from portico_server.features.stores.index.manager import IndexManager
from portico_server.features.stores.ingest import Ingest
from portico_server.features.stores.jobs import StoreJobs
from portico_server.features.stores.link_catch_up import LINK_RUN_KIND
from portico_server.features.stores.model_calls import PictureDescriber
from portico_server.features.stores.names import check_store_name, is_store_name, store_name
from portico_server.features.stores.neighbours import StoreLinks
from portico_server.features.stores.preview import Previews
from portico_server.features.stores.recordings import RecordingTranscriber
from portico_server.features.stores.served_stores import ServedStores
from portico_server.features.stores.store import (
    StoreInfo,
    StoreView,
    check_answers,
    check_search,
    is_expired,
    name_for,
    name_stores,
    pass_content,
    store_scopes,
    view,
)
from portico_server.features.stores.store_claims import StoreClaims
from portico_server.features.stores.store_guards import StoreGuards, check_rule
from portico_server.features.stores.store_tables import StoreTables
from portico_server.features.stores.themes.store_themes import ThemeReader
from portico_server.launchers.local import LOCAL, this_machine
from portico_server.launchers.protocol import Launcher
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler
from portico_server.settings import MB_BYTES, Settings

logger = logging.getLogger(__name__)

PASSAGE_PAGE_SIZE = 1_000
"""Number of passages read at a time."""


def _to_visible(row: StoreView, caller: Principal) -> StoreRow:
    """Return a store without details that the caller need not know.

    A filtered caller must not see the source, because it reveals which files exist. Only admins see where a folder is
    on this machine.
    """
    if not row.whole:
        return replace(row, folder=None, source=None, rights=None)
    return row if caller.admin or row.folder is None else replace(row, folder=Path(row.folder).name)


MAX_PORTION: Final = 500
"""Number of stores that are read at once while those are sought that a key may read."""


class StoreService:
    """All stores of the daemon.

    The composition root adds ``served`` to the registry and calls `start`. A store can be referred to by its name or
    its id. A name refers to the caller's own store first, then to a shared store. An admin refers to the stores of
    other keys by their ids. The scope ``stores:{name}:read|write|manage`` determines what a caller may do.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        runner: Runner,
        scheduler: Scheduler,
        files: FileStorage,
        fetcher: Fetcher,
        settings: Settings,
        find_launcher: Callable[[str], Awaitable[Launcher]] = this_machine,
    ) -> None:
        self._database = database
        self._registry = registry
        self._scheduler = scheduler
        self._files = files
        self._claims = StoreClaims(database, registry)
        self._indexes = IndexManager(database, settings.indexes)
        self.filtered: Callable[..., Sequence[str]] = lambda *_stores: ()
        """Function injected by the composition root. Given the name and the id of a store, it returns the names of the
        keys that have a filter on the store.
        """
        pictures = PictureDescriber(registry, settings.picture_model, settings.ocr_languages)
        recordings = RecordingTranscriber(registry, settings.recording_model)
        limits: dict[str, Any] = {
            "seconds": settings.parse_timeout,
            "memory": settings.parse_memory_mb * MB_BYTES,
            "languages": settings.ocr_languages,
            "recognition": settings.ocr_timeout,
        }
        workers = DocumentWorkers(
            partial(find_launcher, settings.ingest_launcher),
            count=settings.ingest_workers,
            limits=limits,
            log=settings.logs / "documents.log",
        )
        self._readers = ReaderPool(
            workers=settings.ingest_workers,
            **limits,
            pictures=pictures,
            recordings=recordings,
            ahead=self._indexes.ahead,
            elsewhere=workers if settings.ingest_launcher != LOCAL.name else None,
        )
        tables = StoreTables(database, files, self._readers)
        self.themes = ThemeReader(database)
        """The themes of the stores, and the names that their passages mention."""
        self.served = ServedStores(database, registry, self._indexes, self._claims, tables, self.themes)
        """The stores in the form in which the registry serves them."""
        self.ingest = ingest = Ingest(
            database, files, self._readers, self._indexes, workers=settings.ingest_workers
        )
        self._following = SourceFollower(
            database, scheduler, files, ingest, pictures, recordings, fetcher, settings
        )
        self.contents = StoreContents(database, files, scheduler, self._readers, self._indexes, registry)
        """The files and file batches in the stores."""
        self.previews = Previews(self._readers, runner, registry)
        """Previews of how documents are chunked."""
        making = GroupGenerator(database, files, self._readers, self._indexes, ingest, scheduler)
        self.groups = Groups(database, self.contents, self._indexes, making, registry)
        """The chunk groups of the stores."""
        self.links = StoreLinks(database, self.themes, registry)
        """The links between passages of the stores."""
        self.portable = StoreArchives(self, database, registry, files, self._indexes)
        """Export and import of stores as files."""
        self.guards = StoreGuards(database, files, self._indexes, registry)
        """The questions that guard the stores, and the reviews of changes."""
        self.jobs = StoreJobs(
            database,
            scheduler,
            self._indexes,
            ingest,
            self._following,
            self.contents,
            making,
            Calibration(database, self._indexes, registry),
            self.guards,
            registry,
            self._on_change,
        )
        """The operations on stores that are executed as runs."""

    def attachments(self, uploads: UploadedFiles) -> AttachmentReader:
        """Return a reader for the files attached to a question, which contains their bytes or their ids among the
        ``uploads``.
        """
        return AttachmentReader(self._readers, uploads)

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Call ``watcher`` with the id of a store whenever its files have changed."""
        self._indexes.watch(watcher)

    async def start(self) -> list[str]:
        """Resume interrupted work and sync followed sources again. Return the ids of the runs."""
        await self._claims.load()
        return await self.jobs.start()

    async def close(self) -> None:
        """Stop following sources, stop the processes that read documents, and close the indexes."""
        await self._following.close()
        await self._readers.close()
        await self._indexes.close()

    async def create(
        self,
        name: str,
        caller: Principal,
        *,
        unique: bool = True,
        folder: Path | None = None,
        source: str | Sequence[str] | None = None,
        embedding_model: str | None = None,
        description: str = "",
        app: bool = False,
        answers: str = "auto",
        links: bool = False,
        keep_removed: bool = False,
        search: Mapping[str, Any] | None = None,
        index: IndexName = EMBEDDED,
        rights: Any = "off",
        metadata: Mapping[str, str] | None = None,
        expires_after_days: int | None = None,
    ) -> StoreView:
        """Create a store. ``unique`` requires a unique name; if an administrator creates the store, it is shared.

        Without ``unique``, the name is a title, as in OpenAI's API. If the caller may use this name and has no store
        with it yet, the name refers to the new store too. ``embedding_model`` ``None`` means the default model; ``""``
        creates a store that is searched by words alone. With ``app``, the store also answers as a chat app of the same
        name. With a ``folder`` or another ``source``, the store mirrors it, and ``rights`` states who may read the
        files, see `check_rights`. ``index`` is where its vectors are searched. Raises `InvalidRequest`, `Conflict` if
        the name is in use, and `Forbidden`.
        """
        if unique or app:
            check_store_name(name)
        # the store has an id, so a title may contain any characters except control characters, as in
        # OpenAI's API
        elif has_controls(name):
            check_plain(name, "a store")
        check_answers(answers, app=app)
        search = None if search is None else check_search(search, app=app)
        caller.require(f"stores:{name if is_store_name(name) else '*'}:manage")
        if folder is not None:
            caller.require(
                "admin"
            )  # because a caller who follows a folder of this machine can read its contents
            folder = existing_folder(folder)
        checked_source = None if source is None else self._check_source(source, folder, caller)
        checked_rights = check_rights(rights, has_rights=_has_rights(folder, checked_source))
        if checked_rights is not None and folder is None and source is None:
            raise _no_source_of_rights(name)
        if index != EMBEDDED:
            await self._database.write(store_index.require, index)
        now = time.time()
        row = StoreRow(
            id=new_id("vs_"),
            name=name,
            description=description,
            owner=owner_of(caller) if unique else caller.id,
            folder=None if folder is None else str(folder),
            source=checked_source,
            app=app,
            answers=answers,
            links=links,
            keep_removed=keep_removed,
            search=search,
            index=index,
            rights=checked_rights,
            embedding_model=self.embedding(embedding_model),
            metadata=dict(metadata or {}),
            expires_after_days=expires_after_days,
            last_active_at=now,
            created_at=now,
        )
        row = await (self._claims.insert if unique or app else self._claims.insert_titled)(row)
        self._on_change()
        if follows(row):
            self._following.follow(row)
            await self.sync(row)
        return view(row, caller)

    async def get(
        self, ref: str, caller: Principal, action: str = "read", *, is_whole: bool = False
    ) -> StoreView:
        """Return the store to which ``caller`` refers by id or name, for ``read``, ``write`` or ``manage``.

        ``is_whole`` is for operations that concern all files of the store, such as managing the store. Raises
        `NotFound` if the store does not exist for this caller, and `Forbidden` if the caller may not perform the
        action.
        """
        row = await self._visible_row(ref, caller)
        caller.require(*store_scopes(row, action))
        store_view = view(row, caller)
        if is_whole or action == "manage":
            store_view.require_whole()
        return store_view

    async def memory(self, ref: str, caller: Principal) -> StoreView:
        """Return the whole store in which agents remember facts of ``caller``, who needs no scope on the store.

        Only `stores.facts` calls this, because it returns to callers only their own facts.
        Raise `NotFound` if the store does not exist for this caller.
        """
        return view(await self._visible_row(ref, caller), SYSTEM)

    async def memories(self, caller: Principal) -> Mapping[str, str]:
        """Return the names of all stores in which agents can remember facts of ``caller``, by id."""
        store_rows = await self._database.read(rows.visible, caller.id, include_all=caller.admin)
        return {row.id: row.name or row.id for row in store_rows}

    async def list(self, caller: Principal) -> list[StoreRow]:
        """Return all stores that ``caller`` may read, oldest first."""
        store_rows = await self._database.read(rows.visible, caller.id, include_all=caller.admin)
        return [row for row in store_rows if caller.allows_any(store_scopes(row, "read"))]

    async def page(
        self,
        caller: Principal,
        limit: int,
        order: Order,
        *,
        after_id: str | None = None,
        before_id: str | None = None,
        query: str = "",
    ) -> RowPage[StoreRow]:
        """Return a page of `list` between two ids. With ``before_id`` alone, it ends before this id. ``query``: only
        stores whose names contain this text.
        """
        is_backward = before_id is not None and after_id is None
        if is_backward:
            order, after_id, before_id = "asc" if order == "desc" else "desc", before_id, None
        readable: list[StoreRow] = []
        count = limit + 1
        while len(readable) <= limit:
            store_rows = await self._database.read(
                rows.page,
                caller.id,
                order,
                count,
                include_all=caller.admin,
                after_id=after_id,
                before_id=before_id,
                query=query,
            )
            readable += [row for row in store_rows if caller.allows_any(store_scopes(row, "read"))]
            if len(store_rows) < count:
                break
            after_id, count = store_rows[-1].id, MAX_PORTION
        data = readable[:limit]
        return RowPage(tuple(reversed(data) if is_backward else data), len(readable) > limit)

    async def count(self, caller: Principal) -> int:
        """Return the number of stores in `list`."""
        if caller.allows("stores:*:read"):
            return await self._database.read(rows.count, caller.id, include_all=caller.admin)
        return len(await self.list(caller))

    async def describe(self, store_rows: Sequence[StoreRow], caller: Principal) -> Sequence[StoreInfo]:
        """Return the stores with information about the contents that ``caller`` may read."""
        store_views = [view(row, caller) for row in store_rows]
        counts = await self._database.read(rows.counts, [row.id for row in store_views if row.whole])
        own_names = await self._database.read(rows.own_names, caller.id)
        failed_stores = [store for store, (files, _) in counts.items() if files.failed]
        problems = await self._database.read(rows.problems, failed_stores) if failed_stores else {}
        skip_counts = await self._database.read(
            store_skips.skip_reasons, [row.id for row in store_views if row.whole]
        )
        for row in store_views:
            if not row.whole:
                counts[row.id] = await self.contents.counts(row)
        return [
            StoreInfo(
                _to_visible(row, caller),
                name_for(row, caller.id, own_names),
                *counts.get(row.id, (file_counts({}), 0)),
                problem=problems.get(row.id) or self._without_model(row) or self._following.problem(row.id),
                skipped=skip_counts.get(row.id, {}) if follows(row) else {},
            )
            for row in store_views
        ]

    def _without_model(self, row: StoreRow) -> str | None:
        """Return a problem message if the embedding model of a store is no longer available, otherwise ``None``."""
        model = row.embedding_model
        if not model or self._registry.get(model) is not None:
            return None
        return (
            f"Its embedding model '{model}' is not available. Searches use words alone, and new files cannot "
            "be indexed. Add the model, or give the store another model."
        )

    async def list_skipped(self, row: StoreView) -> SkippedRows:
        """Return the files and folders that the last scan of a store's source skipped. Raise `Forbidden` if the caller
        may not read all files of the store.
        """
        row.require_whole()
        return (
            await self._database.read(store_skips.skips_of, row.id) if follows(row) else None
        ) or SkippedRows()

    async def update(self, ref: str, caller: Principal, changes: Mapping[str, Any]) -> StoreView:
        """Update columns of a store.

        The columns are ``name``, ``metadata``, ``expires_after_days``, ``description``, ``app``, ``answers``,
        ``vector_weight``, ``keep_removed``, ``search``, ``guard``, and ``links``, which needs a run that `link` queues.
        ``rights`` can be changed in a store that follows a source, by an admin; the store is then synced.
        ``source`` replaces the source that the store follows. While ``paused`` is set, changes of the source are
        ignored; when it is cleared, the store is synced.
        """
        row = await self.get(ref, caller, "manage")
        changes = _check_changes(row, changes)
        if changes.get("source") is not None:
            changes = {
                **changes,
                "source": self._check_source(changes["source"], None, caller),
                "folder": None,
            }
        if "rights" in changes:
            changes = {**changes, "rights": _check_new_rights(row, changes, caller)}
        new: StoreRow = replace(row, **changes)
        _check_renaming(row, new, self.filtered(row.name))
        new = await self._claims.change(row, new, {**changes, "last_active_at": time.time()})
        self._on_change()
        if new.source != row.source:
            self._following.leave(row)
        self._following.follow(new)
        if (
            follows(new)
            and not new.paused
            and (row.paused or _followed_columns(new) != _followed_columns(row))
        ):
            await self.sync(new)
        elif is_expired(row):
            await self.contents.queue(row)  # the chunks of an expired store may have been deleted
        return await self.get(row.id, caller, "manage")

    async def serve_restored(self, row: StoreRow, model: str) -> str | None:
        """Serve a restored store, and return the id of the run that computes the vectors of ``model``, if any."""
        self._claims.note(row)
        self._on_change()
        self._indexes.note_change(row.id, row.embedding_model)
        await self.contents.queue(
            row
        )  # files may have been waiting to be indexed when the archive was written
        if row.linked_to is not None:
            await self._scheduler.ensure(LINK_RUN_KIND, row.id, row.work)
        return await self.jobs.change_model(row, model) if model else None

    async def delete(self, ref: str, caller: Principal) -> StoreRow:
        """Delete a store with its chunks and mirrored files, and return its former row. Uploaded files are kept."""
        row = await self.get(ref, caller, "manage")
        self._following.leave(row)
        await self._files.release(await self._database.write(rows.delete_store, row.id))
        await self._indexes.drop(row.id)
        await self._claims.release(row)
        self._on_change()
        return row

    async def follow(
        self,
        name: str,
        folder: Path,
        caller: Principal,
        *,
        app: bool = True,
        embedding_model: str | None = None,
        description: str = "",
        rights: Any = "off",
    ) -> StoreView:
        """Create or change the shared store ``name`` so that it mirrors ``folder``, and queue its sync. ``rights`` are
        those of a new store.
        """
        caller.require("admin")
        name, folder = store_name(name), existing_folder(folder)
        row = await self._database.read(rows.by_name, name, None)
        if (
            app
            and not (row is not None and row.app)
            and await self._registry.find_owned(name, None) is not None
        ):
            name = f"docs-{name}"
            row = await self._database.read(rows.by_name, name, None)
        if row is None:
            return await self.create(
                name,
                SYSTEM,
                folder=folder,
                app=app,
                embedding_model=embedding_model,
                description=description or f"Documents in the folder {folder.name}",
                rights=rights,
            )
        values: dict[str, JSON] = {"folder": str(folder), "source": None, "app": app}
        if description:
            values["description"] = description
        if (
            row.folder != str(folder)
            or row.source is not None
            or row.app != app
            or description not in ("", row.description)
        ):
            await self._database.write(rows.change, row.id, values)
            self._on_change()
        row = replace(
            row, folder=str(folder), source=None, app=app, description=description or row.description
        )
        self._following.follow(row)
        await self.sync(row)
        return view(row, SYSTEM)

    async def count_waiting(self) -> int:
        """Return how many files of all stores wait to be indexed."""
        return await self._database.read(rows.waiting_files)

    async def sync(self, row: StoreRow) -> str:
        """Queue a sync of a store, and return the id of the run. The run ends when everything is indexed."""
        return await self._following.sync(row)

    async def find_followed(self, ref: str, caller: Principal) -> StoreView:
        """Return the store to which ``caller`` refers, for a sync.

        Raises the errors of `get`, and `InvalidRequest` if the store mirrors no source.
        """
        row = await self.get(ref, caller, "write", is_whole=True)
        if not follows(row):
            raise follows_nothing(row)
        return row

    async def readable(self, ref: str, caller: Principal) -> str:
        """See `portico_server.core.training_passages.ReadableStores`."""
        row = await self.get(ref, caller)
        [(_row, name)] = name_stores([row], caller.id)
        return name

    async def passages(self, ref: str, caller: Principal, limit: int) -> Sequence[StorePassage]:
        """See `portico_server.core.training_passages.ReadableStores`."""
        row = await self.get(ref, caller)
        ids = list(await self._database.read(chunks.ids, row.id))
        if len(ids) > limit or not row.whole:
            random.Random(row.id).shuffle(ids)  # noqa: S311  # a sample, not a secret
        readable = None if row.whole else await self.contents.permitted(row)
        store_passages: list[StorePassage] = []
        for begin in range(0, len(ids), PASSAGE_PAGE_SIZE):
            if len(store_passages) >= limit:
                break
            page = await self._database.read(chunks.indexed_texts, ids[begin : begin + PASSAGE_PAGE_SIZE])
            store_passages += [
                StorePassage(chunk, name, tuple(headings.split("\n")) if headings else (), text)
                for chunk, file_id, text, headings, name, _ordinal in page
                if readable is None or file_id in readable
            ]
        return await pass_content(self._registry, row, store_passages[:limit])

    async def read_themes(self, row: StoreView) -> StoreThemes:
        """Return what a store is about, as the guards of the store let it pass."""
        themes = await self.themes.read(row.id, row.name or row.id, row.condition)
        return await pass_content(self._registry, row, themes)

    async def plan(self, row: StoreRow) -> SyncPlan:
        """Return what a sync would change now. Raises the errors of `sync`, and `Unavailable` if the source cannot be
        read.
        """
        return await self._following.plan(row)

    def _check_source(
        self, source: str | Sequence[str], folder: Path | None, caller: Principal
    ) -> Mapping[str, JSON]:
        caller.require("admin")  # because the daemon fetches the source with its own rights and keys
        if folder is not None:
            raise InvalidRequest("A store can follow a folder or a source, but not both.", param="source")
        return self._following.check(source)

    async def _visible_row(self, ref: str, caller: Principal) -> StoreRow:
        """Return the store to which ``caller`` refers, without a check of scopes. Raise `NotFound`."""
        row = await self._find_row(ref, caller)
        if row is None:
            store_names = [card.name for card in await self.served.similar(ref, caller)]
            raise NotFound(
                f"Store '{ref[:80]}' not found.{nearest(ref, store_names)}",
                code="store_not_found",
                param="store",
            )
        return row

    async def _find_row(self, ref: str, caller: Principal) -> StoreRow | None:
        """Return the store with this name or id. The caller's own store takes precedence over a shared store of the
        same name.
        """
        if is_store_name(ref):
            own_row, shared_row = await rows.fetch_named(self._database, ref, caller.id)
            return own_row or shared_row
        row = await rows.fetch(self._database, ref)
        return row if row is not None and caller.sees(row.owner) else None

    def embedding(self, model_name: str | None) -> str:
        """See `portico_server.features.stores.embedding.resolve_embedding_model`."""
        return resolve_embedding_model(model_name, self._registry)

    def _on_change(self) -> None:
        self._registry.announce("store")
        self._registry.announce("app")


def _check_changes(row: StoreRow, changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the changes as they are stored. Raise `InvalidRequest` for a value that the store cannot have."""
    is_app = changes.get("app", row.app)
    check_answers(changes.get("answers", "auto"), app=is_app)
    check_rule(changes.get("guard", row.guard))
    if "vector_weight" in changes:
        require_vectors(row, "vector_weight")
    if changes.get("search") is not None:
        return {**changes, "search": check_search(changes["search"], app=is_app)}
    return changes


def _check_new_rights(row: StoreRow, changes: Mapping[str, Any], caller: Principal) -> Any:
    """Return the new rights of a store as they are stored."""
    caller.require("admin")  # because only an admin chooses the source
    changed_row: StoreRow = replace(
        row, folder=changes.get("folder", row.folder), source=changes.get("source", row.source)
    )
    if not follows(changed_row):
        raise _no_source_of_rights(row.name)
    return check_rights(changes["rights"], has_rights=_has_rights(changed_row.folder, changed_row.source))


def _check_renaming(row: StoreRow, new: StoreRow, filtered_keys: Sequence[str]) -> None:
    """Raise an error if the new name is invalid, or if keys have a filter on the store's name."""
    if has_controls(new.name):
        check_plain(new.name, "a store")
    if new.name != row.name and filtered_keys:
        raise Conflict(
            f"The key '{filtered_keys[0]}' has a filter on the store '{row.name}', which would not apply under "
            f"another name. Bind the filter to the id {row.id}, or revoke the key, before renaming the store.",
            code="store_is_filtered",
            param="name",
        )


def _followed_columns(row: StoreRow) -> tuple[Any, ...]:
    """Return the columns of which a change requires a sync."""
    return row.source, row.keep_removed, row.rights


def _has_rights(folder: Path | str | None, source: Mapping[str, Any] | None) -> bool:
    """Return whether a source has rights that a store can adopt."""
    return folder is not None or (source is not None and source["kind"] == "webdav")


def _no_source_of_rights(name: str) -> InvalidRequest:
    return InvalidRequest(
        f"The store '{name}' follows no source whose files could have rights. Set 'rights' for a store with a folder "
        "or a source, or limit keys by the attributes of files (filters).",
        param="rights",
    )


async def may_read(stores: StoreService, ref: str, file_id: str, caller: Principal) -> bool:
    """Return whether ``caller`` may read a file of a store."""
    try:
        await stores.contents.get(await stores.get(ref, caller), file_id)
    except (NotFound, Forbidden):
        return False
    return True
