"""Tracks which paths of a followed folder have changed since the last scan, if the changes were reported."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePath

MAX_CHANGED_PATHS = 100
"""Maximum number of paths that are checked individually. If more have changed, the whole folder is scanned."""


class ChangedPaths:
    """The changes reported in one folder. Other paths are unchanged and need not be checked. At first, nothing is
    known, and the whole folder must be scanned.

    ``linked`` means that the folder contains links. A change of a file with two names is reported for only one of
    them.
    """

    def __init__(self) -> None:
        self._paths: set[PurePath] | None = None
        self.linked = True

    def add(self, paths: Collection[PurePath]) -> None:
        """Record that these paths in the folder have changed."""
        if self._paths is not None:
            self._paths.update(paths)

    def all_changed(self) -> None:
        """Record that any path may have changed, so that the whole folder must be scanned."""
        self._paths = None

    def take(self) -> Collection[PurePath] | None:
        """Return the paths to check, or ``None`` for the whole folder. Afterwards, only new changes count."""
        paths, self._paths = self._paths, set()
        return None if paths is None or self.linked or len(paths) > MAX_CHANGED_PATHS else paths
