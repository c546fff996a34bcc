"""A folder of this machine as a source."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from portico_server.core import pools
from portico_server.db.stores import StoreFileRow
from portico_server.knowledge.files import Files
from portico_server.knowledge.source import Missed, Same, Taken
from portico_server.knowledge.touched import Touched
from portico_server.knowledge.walk import Seen, Walk, glance, walk


class _Limits(TypedDict):
    max_bytes: int
    pictures: bool
    recordings: bool


class Folder:
    """A `portico_server.knowledge.source.Source`. Larger files than ``max_bytes`` are left out, and unless wanted
    ``pictures`` and ``recordings``. With ``touched`` a look is at what has changed since the last one, as far as that
    is known.
    """

    def __init__(
        self,
        root: Path,
        files: Files,
        *,
        max_bytes: int,
        pictures: bool = True,
        recordings: bool = False,
        touched: Touched | None = None,
    ) -> None:
        self._root = root
        self._touched = touched
        self._files = files
        self._max_bytes = max_bytes
        self._pictures = pictures
        self._recordings = recordings

    @property
    def address(self) -> str:
        return f"folder {self._root}"

    async def look(self) -> Walk:
        return await pools.FILES.run(self._look)

    def _look(self) -> Walk:
        limits: _Limits = {
            "max_bytes": self._max_bytes,
            "pictures": self._pictures,
            "recordings": self._recordings,
        }
        if self._touched is None:
            return walk(self._root, **limits)
        paths = self._touched.take()
        found = glance(self._root, paths, **limits) if paths is not None else None
        if found is None:
            found = walk(self._root, **limits)
            self._touched.linked = found.linked
        return found

    async def digest(self, seen: Seen) -> str | None:
        try:
            return await pools.FILES.run(_digest, Path(seen.at))
        except OSError:
            return None  # gone or unreadable since the walk

    async def take(self, wanted: Sequence[tuple[Seen, StoreFileRow | None]]) -> list[Taken]:
        same = {seen.name for seen, old in wanted if old is not None and await self._is_same(seen, old)}
        paths = [Path(seen.at) for seen, _ in wanted if seen.name not in same]
        copied = iter(await self._files.copy(paths) if paths else ())
        taken = [Same() if seen.name in same else next(copied) for seen, _ in wanted]
        return [Missed(item) if isinstance(item, str) else item for item in taken]

    async def _is_same(self, seen: Seen, old: StoreFileRow) -> bool:
        """Whether a touched file has the bytes that we keep."""
        return self._files.holds(old.sha256, old.bytes) and await self.digest(seen) == old.sha256


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
