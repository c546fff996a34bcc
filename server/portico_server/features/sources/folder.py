"""A folder of this machine as a source. It can limit a scan to the paths that have changed since the last scan."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from portico_server.core import pools
from portico_server.db.stores import StoreFileRow
from portico_server.features.files.files import FileStorage
from portico_server.features.sources.changed_paths import ChangedPaths
from portico_server.features.sources.posix_rights import PosixRights
from portico_server.features.sources.source import FetchFailure, FetchResult, Unchanged
from portico_server.features.sources.walk import SourceEntry, Walk, glance, walk


class _WalkLimits(TypedDict):
    max_bytes: int
    pictures: bool
    recordings: bool


class FolderSource:
    """A folder as a `portico_server.features.sources.source.StoreSource`.

    Files larger than ``max_bytes`` are skipped. Images and recordings are skipped unless ``pictures`` and
    ``recordings`` are set. With ``changed_paths``, a scan checks only the changes since the last scan, if they are
    known. With ``has_rights``, a scan reads who may read the files.
    """

    def __init__(
        self,
        root: Path,
        files: FileStorage,
        *,
        max_bytes: int,
        pictures: bool = True,
        recordings: bool = False,
        changed_paths: ChangedPaths | None = None,
        has_rights: bool = False,
    ) -> None:
        self._root = root
        self._has_rights = has_rights
        self._changed_paths = changed_paths
        self._files = files
        self._max_bytes = max_bytes
        self._pictures = pictures
        self._recordings = recordings

    @property
    def address(self) -> str:
        return f"folder {self._root}"

    async def scan(self) -> Walk:
        return await pools.FILES.run(self._scan_with_rights if self._has_rights else self._scan)

    def _scan_with_rights(self) -> Walk:
        found_walk = self._scan()
        rights = PosixRights(self._root)
        for name, source_entry in found_walk.files.items():
            found_walk.files[name] = replace(source_entry, readers=rights.readers(Path(source_entry.at)))
        return found_walk

    def _scan(self) -> Walk:
        limits: _WalkLimits = {
            "max_bytes": self._max_bytes,
            "pictures": self._pictures,
            "recordings": self._recordings,
        }
        if self._changed_paths is None:
            return walk(self._root, **limits)
        paths = self._changed_paths.take()
        found_walk = glance(self._root, paths, **limits) if paths is not None else None
        if found_walk is None:
            found_walk = walk(self._root, **limits)
            self._changed_paths.linked = found_walk.linked
        return found_walk

    async def digest(self, source_entry: SourceEntry) -> str | None:
        try:
            return await pools.FILES.run(_digest, Path(source_entry.at))
        except OSError:
            return None  # the file was removed or became unreadable after the scan

    async def take(self, entries: Sequence[tuple[SourceEntry, StoreFileRow | None]]) -> list[FetchResult]:
        unchanged_names = {
            source_entry.name
            for source_entry, old in entries
            if old is not None and await self._is_same(source_entry, old)
        }
        paths = [
            Path(source_entry.at) for source_entry, _ in entries if source_entry.name not in unchanged_names
        ]
        copies = iter(await self._files.copy(paths) if paths else ())
        results = [
            Unchanged() if source_entry.name in unchanged_names else next(copies)
            for source_entry, _ in entries
        ]
        return [FetchFailure(item) if isinstance(item, str) else item for item in results]

    async def _is_same(self, source_entry: SourceEntry, old: StoreFileRow) -> bool:
        """Return whether a file whose modification time has changed still has the stored bytes."""
        return self._files.holds(old.sha256, old.bytes) and await self.digest(source_entry) == old.sha256


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
