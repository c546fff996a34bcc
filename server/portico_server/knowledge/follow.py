"""What stores follow: a folder, addresses, a bucket. Noticing changes, and mirroring them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePath

from portico.wire import JSON
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.interfaces import Fetcher
from portico_server.db import stores as rows
from portico_server.db.database import Database
from portico_server.db.stores import StoreRow
from portico_server.knowledge.files import FileStorage
from portico_server.knowledge.ingest import Ingest
from portico_server.knowledge.model_calls import PictureDescriber, RecordingTranscriber
from portico_server.knowledge.sources import spec
from portico_server.knowledge.sources.bucket import BucketEndpoint, BucketSource
from portico_server.knowledge.sources.etags import ETagCache
from portico_server.knowledge.sources.folder import ChangedPaths, FolderSource
from portico_server.knowledge.sources.source import SourceLimits, StoreSource
from portico_server.knowledge.sources.web import WebSource
from portico_server.knowledge.sync import MirrorPlan, SourceSync
from portico_server.knowledge.watch import FolderWatch, SourcePoll
from portico_server.runs.scheduler import Scheduler
from portico_server.settings import MB_BYTES, Settings


class SourceFollower:
    """Keeps stores as what they follow is: folders are watched, other sources are looked at again and again."""

    def __init__(
        self,
        database: Database,
        scheduler: Scheduler,
        files: FileStorage,
        ingest: Ingest,
        pictures: PictureDescriber,
        recordings: RecordingTranscriber,
        fetcher: Fetcher,
        settings: Settings,
    ) -> None:
        self._database = database
        self._scheduler = scheduler
        self._files = files
        self._pictures = pictures
        self._recordings = recordings
        self._fetcher = fetcher
        self._settings = settings
        self._sync = SourceSync(database, files, ingest)
        self._changed_paths: dict[str, ChangedPaths] = {}
        self._watch = FolderWatch(self._on_paths_changed, self._on_watch_lost, settings.home)
        self._poll = SourcePoll(self._changed, settings.source_interval)

    def follow(self, row: StoreRow) -> None:
        """Notice from now on what changes in what a store follows, or no longer if it is paused."""
        wanted = self._settings.watch and not row.paused
        self._changed_paths.pop(row.id, None)
        if row.folder is not None and wanted:
            self._changed_paths[row.id] = ChangedPaths()
            self._watch.follow(row.id, Path(row.folder))
        else:
            self._watch.leave(row.id)
        if follows(row) and wanted:
            self._poll.follow(row.id)
        else:
            self._poll.leave(row.id)

    def leave(self, row: StoreRow) -> None:
        """Forget a store."""
        self._changed_paths.pop(row.id, None)
        self._watch.leave(row.id)
        self._poll.leave(row.id)
        self._etag_path(row).unlink(missing_ok=True)

    async def close(self) -> None:
        """Notice nothing any more."""
        await self._watch.close()
        await self._poll.close()

    async def sync(self, row: StoreRow) -> str:
        """Queue a look at what a store mirrors; the id of the run, which ends when all is indexed."""
        if not follows(row):
            raise follows_nothing(row)
        if row.id in self._changed_paths:
            self._changed_paths[row.id].all_changed()
        return await self._scheduler.ensure("sync", row.id, row.work)

    async def plan(self, row: StoreRow) -> MirrorPlan:
        """What a sync would do now. Raises as `sync` does, and `Unavailable` if it cannot be looked at."""
        return await self._sync.plan(row, self._source(row))

    async def run(self, row: StoreRow, context: Context) -> JSON:
        """Mirror what a store follows; see `SourceSync.run`. Of a watched folder only what gave notice since the last
        time is looked at, unless a look at all of it was asked for.
        """
        touched = self._changed_paths.get(row.id)
        if touched is not None:
            await self._watch.wait_for_watch(row.id)
        try:
            return await self._sync.run(row, self._source(row, touched), context)
        except BaseException:
            if touched is not None:
                touched.all_changed()
            raise

    def check(self, source: str | Sequence[str]) -> Mapping[str, JSON]:
        """What a store is to follow, as its row keeps it. Raises `InvalidRequest`."""
        found = spec.parse_source(source)
        if found.kind == "s3":
            BucketEndpoint.of(self._settings)
        return found.kept()

    def _source(self, row: StoreRow, touched: ChangedPaths | None = None) -> StoreSource:
        """What a store mirrors. Raises `InvalidRequest` if it mirrors nothing."""
        pictures, recordings = self._pictures.readable(), self._recordings.readable()
        most = self._settings.max_file_mb * MB_BYTES
        if row.folder is not None:
            return FolderSource(
                Path(row.folder),
                self._files,
                max_bytes=most,
                pictures=pictures,
                recordings=recordings,
                touched=touched,
            )
        if row.source is None:
            raise follows_nothing(row)
        limits = SourceLimits(
            self._settings.source_max_files, most, self._settings.request_timeout, pictures, recordings
        )
        notes, wanted = ETagCache(self._etag_path(row)), spec.source_of(row.source)
        if wanted.kind == "s3":
            return BucketSource(
                wanted, BucketEndpoint.of(self._settings), self._fetcher, self._files, notes, limits
            )
        return WebSource(wanted, self._fetcher, self._files, notes, limits)

    def _etag_path(self, row: StoreRow) -> Path:
        return self._settings.sources / f"{row.id}.json"

    async def _on_paths_changed(self, store_id: str, paths: Collection[PurePath] | None) -> None:
        """Some paths in a followed folder have changed, or whatever may have."""
        touched = self._changed_paths.get(store_id)
        if paths is None or touched is None:
            await self._changed(store_id)
            return
        touched.add(paths)
        row = await self._database.read(rows.get, store_id)
        if row is not None and follows(row) and not row.paused:
            await self._scheduler.ensure("sync", row.id, row.work)

    def _on_watch_lost(self, store_id: str) -> None:
        if store_id in self._changed_paths:
            self._changed_paths[store_id].all_changed()

    async def _changed(self, store_id: str) -> None:
        row = await self._database.read(rows.get, store_id)
        if row is not None and follows(row) and not row.paused:
            await self.sync(row)


def follows(row: StoreRow) -> bool:
    """Whether a store mirrors anything."""
    return row.folder is not None or row.source is not None


def existing_folder(folder: Path) -> Path:
    """A folder of this machine by its whole path. Raises `InvalidRequest` if there is none."""
    folder = folder.expanduser().absolute()
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise InvalidRequest(f"The folder {folder} {what}.", code="folder_not_found", param="folder")
    return folder


def follows_nothing(row: StoreRow) -> InvalidRequest:
    """The error for a sync of a store that mirrors nothing."""
    return InvalidRequest(
        f"The store '{row.name}' does not follow a folder or another source, so there is nothing to sync.",
        code="no_folder",
        param="store",
    )
