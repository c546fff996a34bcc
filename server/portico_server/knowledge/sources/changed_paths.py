"""Which paths of a followed folder have changed since it was looked at, as far as that is known."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePath

MAX_CHANGED_PATHS = 100
"""Paths that are looked at one by one. Where more have changed, the whole folder is."""


class ChangedPaths:
    """Notices of one folder. What is known to be as it was need not be looked at; at first nothing is.

    ``linked``: whether links lie in the folder. A file that is there under two names gives notice under one.
    """

    def __init__(self) -> None:
        self._paths: set[PurePath] | None = None
        self.linked = True

    def add(self, paths: Collection[PurePath]) -> None:
        """These paths in the folder have changed."""
        if self._paths is not None:
            self._paths.update(paths)

    def all_changed(self) -> None:
        """Nothing is known any more: the whole folder must be looked at."""
        self._paths = None

    def take(self) -> Collection[PurePath] | None:
        """What is to be looked at, ``None`` for everything. From now on the folder counts as known."""
        paths, self._paths = self._paths, set()
        return None if paths is None or self.linked or len(paths) > MAX_CHANGED_PATHS else paths
