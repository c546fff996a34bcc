"""Bytes on their way in."""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes that have arrived and are on disk, but are not a file yet."""

    path: Path
    bytes: int
    sha256: str


def copy_file(path: Path, handle: int, to: Path, max_bytes: int, stop: threading.Event) -> Received | str:
    """Copy a file of this machine into ``to``, open as ``handle``; why, if it cannot be read or is too large.

    Raises `InterruptedError` once ``stop`` is set, and `OSError` for what goes wrong with ``to``, which is then gone.
    """
    digest, size, why = hashlib.sha256(), 0, ""
    try:
        with os.fdopen(handle, "wb", buffering=0) as out:
            try:
                source = path.open("rb", buffering=0)
            except OSError:
                why = "gone or unreadable while looking"
            else:
                with source:
                    while not why and (block := _read(source.fileno())):
                        if stop.is_set():
                            raise InterruptedError("the daemon is stopping")
                        size += len(block)
                        if size > max_bytes:
                            why = "grew too large while looking"
                        else:
                            out.write(block)
                            digest.update(block)
                    if block is None:
                        why = "gone or unreadable while looking"
    except BaseException:
        to.unlink(missing_ok=True)
        raise
    if why:
        to.unlink(missing_ok=True)
        return why
    return Received(to, size, digest.hexdigest())


def _read(handle: int) -> bytes | None:
    """The next block, or ``None`` if it cannot be read."""
    try:
        return os.read(handle, _BLOCK)
    except OSError:
        return None
