"""Checks the free disk space before a download."""

from __future__ import annotations

import shutil
from pathlib import Path

from portico_server.core.errors import Unavailable

_SPARE_BYTES = 64 * 1024 * 1024
"""Bytes that must stay free, so that the database can still be written."""


def require_room(folder: Path, size: int, source: object) -> None:
    """Raise `Unavailable`, with both sizes, unless the folder's disk has room for ``size`` more bytes."""
    free = shutil.disk_usage(folder).free
    if size + _SPARE_BYTES > free:
        raise Unavailable(
            f"'{source}' needs {_format_size(size)} in {folder}, but only {_format_size(free)} are free. Free some "
            "space, or set 'models' to a folder on a larger disk.",
            code="disk_full",
        )


def _format_size(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 100_000_000 else f"{size / 1e6:,.1f} MB"
