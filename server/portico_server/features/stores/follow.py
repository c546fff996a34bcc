"""Sources that stores follow, such as a folder, web addresses, a bucket or a repository.

Changes are detected by file system notifications or by polling; then the store mirrors the source.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import shutil
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeAlias

from portico.schemas.stores import SyncPlan
from portico.wire import JSON
from portico_server.blobs.s3 import BucketEndpoint
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.fetching import Fetcher
from portico_server.db import stores as rows
from portico_server.db.database import Database
from portico_server.db.stores import StoreRow
from portico_server.features.files.files import FileStorage
from portico_server.features.sources import spec
from portico_server.features.sources.changed_paths import ChangedPaths
from portico_server.features.sources.folder import FolderSource
from portico_server.features.sources.rights import adopts_source
from portico_server.features.sources.source import StoreSource
from portico_server.features.sources.walk import is_looked_at
from portico_server.features.stores.ingest import Ingest
from portico_server.features.stores.model_calls import PictureDescriber
from portico_server.features.stores.recordings import RecordingTranscriber
from portico_server.features.stores.source_poll import SourcePoll
from portico_server.features.stores.sync import SourceSync
from portico_server.runs.scheduler import Scheduler
from portico_server.settings import MB_BYTES, Settings

if TYPE_CHECKING:
    from portico_server.features.sources.folder_notices import FolderChanges, FolderNotices


class SourceFollower:
    """Keeps stores in sync with their sources: folders are watched, other sources are polled."""

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
        self._sync = SourceSync(database, files, ingest, settings.source_max_files)
        self._changed_paths: dict[str, ChangedPaths] = {}
        self._fetching: dict[str, asyncio.Lock] = {}
        """A lock for each store that follows a repository, by store id."""
        self._watch = FolderWatch(self._on_paths_changed, self._on_watch_lost, settings.home)
        self._poll = SourcePoll(self._on_change, settings.source_interval)

    def follow(self, row: StoreRow) -> None:
        """Start detecting changes in a store's source, or stop if the store is paused."""
        is_wanted = self._settings.watch and not row.paused
        self._changed_paths.pop(row.id, None)
        if row.folder is not None and is_wanted:
            self._changed_paths[row.id] = ChangedPaths()
            self._watch.follow(row.id, Path(row.folder))
        else:
            self._watch.leave(row.id)
        if follows(row) and is_wanted:
            self._poll.follow(row.id)
        else:
            self._poll.leave(row.id)

    def leave(self, row: StoreRow) -> None:
        """Stop following a store's source."""
        self._changed_paths.pop(row.id, None)
        self._watch.leave(row.id)
        self._poll.leave(row.id)
        self._fetching.pop(row.id, None)
        self._etag_path(row).unlink(missing_ok=True)
        shutil.rmtree(self._repository(row), ignore_errors=True)

    def problem(self, store_id: str) -> str | None:
        """Return why changes in a store's folder are not noticed at once, or ``None`` if they are."""
        return self._watch.problem(store_id)

    async def close(self) -> None:
        """Stop detecting changes in all sources."""
        await self._watch.close()
        await self._poll.close()

    async def sync(self, row: StoreRow) -> str:
        """Queue a full sync of a store, and return the id of the run, which ends when everything is indexed."""
        if not follows(row):
            raise follows_nothing(row)
        if row.id in self._changed_paths:
            self._changed_paths[row.id].all_changed()
        return await self._scheduler.ensure("sync", row.id, row.work)

    async def plan(self, row: StoreRow) -> SyncPlan:
        """Return what a sync would do now. Raises the errors of `sync`, and `Unavailable` if the source cannot be
        read.
        """
        return await self._sync.plan(row, self._source(row))

    async def run(self, row: StoreRow, context: Context) -> JSON:
        """Mirror the source of a store; see `SourceSync.run`.

        In a watched folder, only the paths reported since the last sync are checked, unless a full sync was requested.
        """
        changed_paths = self._changed_paths.get(row.id)
        if changed_paths is not None:
            await self._watch.wait_for_watch(row.id)
        try:
            return await self._sync.run(row, self._source(row, changed_paths), context)
        except BaseException:
            if changed_paths is not None:
                changed_paths.all_changed()
            raise

    def check(self, source: str | Sequence[str]) -> Mapping[str, JSON]:
        """Validate the source of a store, and return it in the form stored in its row. Raises `InvalidRequest`."""
        source_spec = spec.parse_source(source)
        if source_spec.kind == "s3":
            BucketEndpoint.of(self._settings)
            address, files = f"{source_spec.addresses[0].rstrip('/')}/", f"{self._settings.files}/"
            if address.startswith(files) or files.startswith(address):
                raise InvalidRequest(
                    "This folder contains the daemon's own files, with data of all users. Choose another "
                    "folder: a store cannot follow it.",
                    code="invalid_source",
                    param="source",
                )
        return source_spec.kept()

    def _source(self, row: StoreRow, changed_paths: ChangedPaths | None = None) -> StoreSource:
        """Return the source that a store mirrors. Raise `InvalidRequest` if it mirrors nothing."""
        pictures, recordings = self._pictures.readable(), self._recordings.readable()
        if row.folder is not None:
            return FolderSource(
                Path(row.folder),
                self._files,
                max_bytes=self._settings.max_file_mb * MB_BYTES,
                pictures=pictures,
                recordings=recordings,
                changed_paths=changed_paths,
                has_rights=adopts_source(row.rights),
            )
        if row.source is None:
            raise follows_nothing(row)
        return self._remote_source(row, row.source, pictures=pictures, recordings=recordings)

    def _remote_source(
        self, row: StoreRow, source: Mapping[str, JSON], *, pictures: bool, recordings: bool
    ) -> StoreSource:
        """Return a source that is not a folder. Each kind is imported with the first store that mirrors it."""
        from portico_server.features.sources.fetch import ETagCache
        from portico_server.features.sources.limits import SourceLimits

        limit = self._settings.max_file_mb * MB_BYTES
        limits = SourceLimits(
            self._settings.source_max_files, limit, self._settings.request_timeout, pictures, recordings
        )
        notes, source_spec = ETagCache(self._etag_path(row)), spec.source_of(source)
        if source_spec.kind == "s3":
            from portico_server.features.sources.bucket import BucketSource

            return BucketSource(
                source_spec, BucketEndpoint.of(self._settings), self._fetcher, self._files, notes, limits
            )
        if source_spec.kind == "git":
            from portico_server.features.sources.repository import GitSource

            address = spec.GitAddress.parse(source_spec.addresses[0])
            return GitSource(
                address,
                self._fetcher,
                self._files,
                notes,
                limits,
                self._repository(row),
                self._fetching.setdefault(row.id, asyncio.Lock()),
                spec.login_of(self._settings.source_logins, address.url),
            )
        if source_spec.kind == "webdav":
            from portico_server.features.sources.webdav import WebDavSource

            login = spec.login_of(
                self._settings.source_logins, source_spec.addresses[0].removeprefix(spec.WEBDAV)
            )
            return WebDavSource(
                source_spec,
                self._fetcher,
                self._files,
                notes,
                limits,
                login,
                has_rights=adopts_source(row.rights),
            )
        if source_spec.kind == "imap":
            from portico_server.features.sources.mailbox import MailSource

            folder = spec.MailAddress.parse(source_spec.addresses[0])
            login = spec.login_of(self._settings.source_logins, folder.written())
            return MailSource(folder, self._fetcher, self._files, notes, limits, login)
        from portico_server.features.sources.web import WebSource

        return WebSource(source_spec, self._fetcher, self._files, notes, limits)

    def _repository(self, row: StoreRow) -> Path:
        return self._settings.sources / f"{row.id}.git"

    def _etag_path(self, row: StoreRow) -> Path:
        return self._settings.sources / f"{row.id}.json"

    async def _on_paths_changed(self, store_id: str, paths: Collection[PurePath] | None) -> None:
        """Handle changes of paths in a followed folder; ``None`` means that any path may have changed."""
        changed_paths = self._changed_paths.get(store_id)
        if paths is None or changed_paths is None:
            await self._on_change(store_id)
            return
        changed_paths.add(paths)
        row = await self._database.read(rows.get, store_id)
        if row is not None and follows(row) and not row.paused:
            await self._scheduler.ensure("sync", row.id, row.work)

    def _on_watch_lost(self, store_id: str) -> None:
        if store_id in self._changed_paths:
            self._changed_paths[store_id].all_changed()

    async def _on_change(self, store_id: str) -> None:
        row = await self._database.read(rows.get, store_id)
        if row is not None and follows(row) and not row.paused:
            await self.sync(row)


def follows(row: StoreRow) -> bool:
    """Return whether a store mirrors a source."""
    return row.folder is not None or row.source is not None


def existing_folder(folder: Path) -> Path:
    """Return the absolute path of a folder on this machine. Raise `InvalidRequest` if the folder does not exist."""
    folder = folder.expanduser().absolute()
    shown_path = str(folder).encode(errors="backslashreplace").decode()
    if shown_path != str(folder):
        raise InvalidRequest(
            f"The path of the folder {shown_path} is not valid UTF-8. Rename the folder, or follow a folder above it.",
            code="invalid_folder",
            param="folder",
        )
    if not folder.is_dir():
        problem = "is a file, not a folder" if folder.exists() else "does not exist"
        raise InvalidRequest(f"The folder {folder} {problem}.", code="folder_not_found", param="folder")
    return folder


def follows_nothing(row: StoreRow) -> InvalidRequest:
    """Return the error for an attempt to sync a store that mirrors no source."""
    return InvalidRequest(
        f"The store '{row.name}' does not follow a folder or another source, so it cannot be synced.",
        code="no_folder",
        param="store",
    )


logger = logging.getLogger(__name__)

MISSING_FOLDER_INTERVAL_MS = 15_000
"""Interval, in milliseconds, at which the watch checks whether missing folders exist again."""

DEBOUNCE_MS = 800
"""Maximum time, in milliseconds, for which changes are collected before they are reported. A pause of `QUIET_MS`
without changes ends the time earlier.
"""

QUIET_MS = 100

CATCH_UP_TIMEOUT_S = 2.0
"""Maximum time, in seconds, that the scan of a folder waits until the folder is watched, so that changes during the
scan are not missed.
"""


ChangeListener: TypeAlias = Callable[[str, Collection[PurePath] | None], Awaitable[None]]

WatchedFolder: TypeAlias = tuple[Path, tuple[int, int]]
"""A folder with its device and number, which differ if the folder was replaced by another of the same path."""


class FolderWatch:
    """Watches all followed folders, with system notifications, or by polling if they are unavailable.

    Changes in ``home`` are ignored, because the daemon itself makes them: a store that follows a folder around
    ``home`` must not index them endlessly. Soon after a change, ``change_listener`` is called with the id of a store
    and the changed paths in its folder, or with ``None`` if any path may have changed. ``blind`` is called with the id
    of a store whose folder may have changed unnoticed before watching started. Changes made while the daemon is
    down are found by the sync at the daemon's start.
    """

    def __init__(self, change_listener: ChangeListener, blind: Callable[[str], None], home: Path) -> None:
        self._on_change = change_listener
        self._blind = blind
        self._up: set[str] = set()
        """The ids of the stores whose folders are being watched."""
        self._unwatched_ids: set[str] = set()
        """The ids of the stores whose folders were not watched for a time. They are synced when this ends."""
        self._polling_reason = ""
        self._rising = asyncio.Event()
        self._home = home.resolve()
        self._folders: dict[str, Path] = {}
        self._again = asyncio.Event()
        self._stop: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    def follow(self, store_id: str, folder: Path) -> None:
        """Start watching a store's folder."""
        if self._folders.get(store_id) != folder:
            self._folders[store_id] = folder
            self._unwatched_ids.discard(store_id)
            self._restart()

    def leave(self, store_id: str) -> None:
        """Stop watching a store's folder."""
        if self._folders.pop(store_id, None) is not None:
            self._unwatched_ids.discard(store_id)
            self._restart()

    def problem(self, store_id: str) -> str | None:
        """Return why changes in a store's folder are not noticed at once, or ``None`` if they are."""
        if store_id not in self._folders:
            return None
        if store_id in self._unwatched_ids:
            return (
                "Its folder is not watched, because it does not exist or cannot be read. "
                "The files indexed so far are kept, and the store is synced when the folder is available."
            )
        if self._polling_reason:
            return (
                f"Changes in its folder are polled, which is slower, because watching failed: {self._polling_reason}. "
                "On Linux, raise fs.inotify.max_user_watches, then restart the daemon."
            )
        return None

    async def wait_for_watch(self, store_id: str) -> None:
        """Wait until a store's folder is being watched, at most `CATCH_UP_TIMEOUT_S` seconds."""
        if store_id not in self._folders or not await pools.FILES.run(self._folders[store_id].is_dir):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP_TIMEOUT_S):
                while store_id in self._folders and store_id not in self._up:
                    self._rising.clear()
                    await self._rising.wait()

    async def close(self) -> None:
        """Stop watching."""
        self._folders.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _restart(self) -> None:
        """Make the watch look at the current folders."""
        self._again.set()
        if self._stop is not None:
            self._stop.set()
        if self._task is None and self._folders:
            self._task = asyncio.create_task(self._run(), name="watch folders")

    async def _run(self) -> None:
        while True:
            self._again.clear()
            if not self._folders:
                await self._again.wait()
                continue
            try:
                if _has_notices() and not self._polling_reason:
                    await self._watch_with_notices()
                else:
                    await self._watch_with_library()
            except FileNotFoundError:
                continue  # a folder was removed just before watching started
            except (OSError, RuntimeError, ExceptionGroup) as error:
                # The system has no more notifications available, or the file system does not support them, or
                # watchfiles cannot report a name. A sync of all folders finds what was not reported.
                self._unwatched_ids.update(self._folders)
                logger.warning("changes in folders are polled instead of watched: %r", error)
                if self._polling_reason:
                    await self._wait_for_change(MISSING_FOLDER_INTERVAL_MS / 1_000)
                self._polling_reason = str(error) or type(error).__name__
            except Exception:
                self._unwatched_ids.update(self._folders)
                logger.exception("changes in folders could not be reported")
                await self._wait_for_change(MISSING_FOLDER_INTERVAL_MS / 1_000)

    async def _wait_for_change(self, seconds: float) -> None:
        """Wait until the set of followed folders changes, at most ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self._again.wait()
        except TimeoutError:
            return

    async def _watch_with_notices(self) -> None:
        """Report changes with the notices of Linux. Stores come and go without a gap for the others."""
        # Most commands of the daemon need no watcher, so the module is imported only when a store follows a folder.
        module = await pools.LOADING.run(
            importlib.import_module, "portico_server.features.sources.folder_notices"
        )
        notices: FolderNotices = module.FolderNotices({str(self._home)})
        watched_folders: dict[str, WatchedFolder] = {}
        try:
            while True:
                self._again.clear()
                watched_folders = await self._watch_existing(notices, watched_folders)
                if await self._wait_for_notice(notices):
                    changes = await self._collect(notices)
                    if not changes.are_complete:
                        self._unwatched_ids.update(self._folders)
                        return
                    for store_id, (path, _) in tuple(watched_folders.items()):
                        if str(path) in changes.lost_roots:
                            self._unwatched_ids.add(store_id)
                            del watched_folders[store_id]
                    await self._report(changes.paths, watched_folders)
        finally:
            self._up.clear()
            await pools.FILES.begin(notices.close)

    async def _watch_existing(
        self, notices: FolderNotices, watched_folders: Mapping[str, WatchedFolder]
    ) -> dict[str, WatchedFolder]:
        """Watch the folders that exist, and leave the others. Return the watched folders."""
        wanted_folders = dict(self._folders)
        existing_folders = await pools.FILES.run(_existing, wanted_folders)
        self._unwatched_ids.update(wanted_folders.keys() - existing_folders.keys())
        still_watched = {
            store_id: folder
            for store_id, folder in watched_folders.items()
            if existing_folders.get(store_id) == folder
        }
        self._unwatched_ids.update((watched_folders.keys() - still_watched.keys()) & wanted_folders.keys())
        old_paths = {path for path, _ in watched_folders.values()}
        for path in old_paths - {path for path, _ in still_watched.values()}:
            await pools.FILES.run(notices.leave, path)
        self._up.intersection_update(still_watched)
        for store_id, folder in existing_folders.items():
            if store_id in still_watched:
                continue
            if await pools.FILES.run(notices.watch, folder[0]):
                still_watched[store_id] = folder
                self._mark_watching([store_id])
                await self._sync_lost([store_id])
            else:
                self._unwatched_ids.add(store_id)
        return still_watched

    async def _wait_for_notice(self, notices: FolderNotices) -> bool:
        """Return true when the system reports changes, and false if stores come or go, or after a time."""
        loop = asyncio.get_running_loop()
        loop.add_reader(notices.fileno, self._again.set)
        try:
            await self._wait_for_change(MISSING_FOLDER_INTERVAL_MS / 1_000)
        finally:
            loop.remove_reader(notices.fileno)
        return self._again.is_set()

    async def _collect(self, notices: FolderNotices) -> FolderChanges:
        """Return changes, after a pause or after `DEBOUNCE_MS`."""
        loop = asyncio.get_running_loop()
        changes = await pools.FILES.run(notices.read)
        latest = loop.time() + DEBOUNCE_MS / 1_000
        while loop.time() < latest:
            await asyncio.sleep(QUIET_MS / 1_000)
            newer = await pools.FILES.run(notices.read)
            changes.lost_roots |= newer.lost_roots
            changes.are_complete &= newer.are_complete
            if not newer.paths:
                break
            changes.paths |= newer.paths
        return changes

    async def _watch_with_library(self) -> None:
        """Report changes until a store follows or leaves a folder, or a folder appears or disappears."""
        watchfiles = await pools.LOADING.run(importlib.import_module, "watchfiles")
        self._stop = asyncio.Event()
        wanted_folders = dict(self._folders)
        existing_folders = await pools.FILES.run(_existing, wanted_folders)
        self._unwatched_ids.update(wanted_folders.keys() - existing_folders.keys())
        if not existing_folders:
            await self._wait_for_change(MISSING_FOLDER_INTERVAL_MS / 1_000)
            return
        notices: AsyncIterator[set[tuple[Any, str]]] = watchfiles.awatch(
            *{path for path, _ in existing_folders.values()},
            watch_filter=None,
            stop_event=self._stop,
            debounce=DEBOUNCE_MS,
            step=QUIET_MS,
            rust_timeout=MISSING_FOLDER_INTERVAL_MS,
            yield_on_timeout=True,
            force_polling=bool(self._polling_reason) or None,
            ignore_permission_denied=True,
        )
        # The generator registers for notifications before it first waits, so this callback runs when the
        # folders are watched.
        rise = asyncio.get_running_loop().call_soon(self._mark_watching, tuple(existing_folders))
        try:
            await self._sync_lost(existing_folders)  # the sync waits for the watch
            async for notice in notices:
                await self._report({path for _, path in notice}, existing_folders)
                if await pools.FILES.run(_existing, wanted_folders) != existing_folders:
                    self._unwatched_ids.update(wanted_folders)
                    return
        finally:
            rise.cancel()
            self._up.clear()

    def _mark_watching(self, store_ids: Collection[str]) -> None:
        for store_id in store_ids:
            self._blind(store_id)
        self._up.update(store_ids)
        self._rising.set()

    async def _sync_lost(self, store_ids: Collection[str]) -> None:
        """Report stores whose folders are watched again."""
        for store_id in store_ids:
            if store_id in self._unwatched_ids:
                self._unwatched_ids.discard(store_id)
                await self._on_change(store_id, None)

    async def _report(self, changed_names: Collection[str], folders: Mapping[str, WatchedFolder]) -> None:
        """Report changed paths to the stores whose folders contain these paths."""
        paths = [path for path in map(Path, changed_names) if not path.is_relative_to(self._home)]
        for store_id, (folder, _) in folders.items():
            changed_paths = {
                path.relative_to(folder)
                for path in paths
                if path.is_relative_to(folder) and is_looked_at(path, folder)
            }
            if changed_paths:
                await self._on_change(store_id, changed_paths)


def _has_notices() -> bool:
    """Return whether the system reports changes in all folders. Linux inside Windows does not for Windows' folders."""
    return (
        sys.platform == "linux"
        and "microsoft" not in os.uname().release
        and not os.environ.get("WATCHFILES_FORCE_POLLING")
    )


def _existing(folders: Mapping[str, Path]) -> dict[str, WatchedFolder]:
    """Return the folders that exist, with links resolved, because the system reports resolved paths."""
    existing_folders = {}
    for store_id, folder in folders.items():
        with suppress(OSError, RuntimeError):  # RuntimeError: links in a circle
            path = folder.resolve(strict=True)
            status = path.stat()
            if stat.S_ISDIR(status.st_mode):
                existing_folders[store_id] = path, (status.st_dev, status.st_ino)
    return existing_folders
