"""Bytes on their way in."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

from portico_server.blobs.place import ReceivedFile

_BLOCK_BYTES = 1024 * 1024


def copy_file(path: Path, handle: int, to: Path, max_bytes: int, stop: threading.Event) -> ReceivedFile | str:
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
                    while not why and (block := _read_block(source.fileno())):
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
    return ReceivedFile(to, size, digest.hexdigest())


def _read_block(handle: int) -> bytes | None:
    """The next block, or ``None`` if it cannot be read."""
    try:
        return os.read(handle, _BLOCK_BYTES)
    except OSError:
        return None
