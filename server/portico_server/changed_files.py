"""Refuses to import a module of Portico whose file has changed since the daemon started, as ``git pull`` does it.

The daemon imports most modules when they are first needed. A newer file would not match the modules in memory.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from portico_server.core.errors import Unavailable

logger = logging.getLogger(__name__)

_PACKAGES = ("portico", "portico_server")


class ChangedFileFinder:
    """A finder of modules, for ``sys.meta_path``. ``since`` is the start of the daemon, in seconds since 1970."""

    def __init__(self, since: float) -> None:
        self._since = since

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return ``None``, so that the next finder finds the module. Raise `Unavailable` if its file has changed, or
        has been removed.
        """
        if name.partition(".")[0] not in _PACKAGES or path is None:
            return None
        spec = PathFinder.find_spec(name, path, target)
        origins = [spec.origin] if spec is not None and spec.origin else list(path) if spec is None else []
        if not any(self._has_changed(Path(origin)) for origin in origins):
            return None
        message = (
            f"The files of Portico have changed since this daemon started ({name}), so it cannot import them. "
            "Restart the daemon: portico down, then portico up."
        )
        logger.error(message)
        raise Unavailable(message, code="files_changed")

    def _has_changed(self, place: Path) -> bool:
        try:
            return place.stat().st_mtime > self._since
        except OSError:
            return True


def watch() -> None:
    """Refuse changed files from now on."""
    sys.meta_path.insert(0, ChangedFileFinder(time.time()))
