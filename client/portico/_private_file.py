"""Writes files that contain keys: sign-ins to daemons, and the configuration of connected clients."""

from __future__ import annotations

import os
from pathlib import Path


def write_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace a file atomically, so that its content survives a power failure. Raises `OSError`."""
    new = path.with_name(f"{path.name}.portico-new")
    new.unlink(missing_ok=True)  # its mode would persist
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    new.chmod(mode)
    new.replace(path)
