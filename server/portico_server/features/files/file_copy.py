"""Copies incoming bytes."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

from portico_server.blobs.place import ReceivedFile

_BLOCK_BYTES = 1024 * 1024


def copy_file(path: Path, handle: int, to: Path, max_bytes: int, stop: threading.Event) -> ReceivedFile | str:
    """Copy a file of this machine to ``to``, which is open as ``handle``. Return the reason if the file is unreadable
    or too large.

    Raises `InterruptedError` once ``stop`` is set, and `OSError` if ``to`` cannot be written. In each case, ``to`` is
    removed.
    """
    digest, size, problem = hashlib.sha256(), 0, ""
    try:
        with os.fdopen(handle, "wb", buffering=0) as out:
            try:
                source = path.open("rb", buffering=0)
            except OSError:
                problem = "removed or unreadable during the scan"
            else:
                with source:
                    while not problem and (block := _read_block(source.fileno())):
                        if stop.is_set():
                            raise InterruptedError("the daemon is stopping")
                        size += len(block)
                        if size > max_bytes:
                            problem = "grew too large during the scan"
                        else:
                            out.write(block)
                            digest.update(block)
                    if block is None:
                        problem = "removed or unreadable during the scan"
    except BaseException:
        to.unlink(missing_ok=True)
        raise
    if problem:
        to.unlink(missing_ok=True)
        return problem
    return ReceivedFile(to, size, digest.hexdigest())


def _read_block(handle: int) -> bytes | None:
    """Return the next block of the file, or ``None`` if the block cannot be read."""
    try:
        return os.read(handle, _BLOCK_BYTES)
    except OSError:
        return None
