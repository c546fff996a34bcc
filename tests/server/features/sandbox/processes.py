"""Processes, followed until they end."""

from __future__ import annotations

import contextlib
import os
import select

import psutil


def family(pid: int) -> list[int]:
    """Return handles of a process and all its descendants; a handle is readable once its process has ended."""
    root = psutil.Process(pid)
    handles = []
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(ProcessLookupError):
            handles.append(os.pidfd_open(process.pid))
    return handles


def gone(handles: list[int]) -> bool:
    """Return whether all of them end; the system does away with them a moment after their namespace's first."""
    try:
        return all(select.select([handle], [], [], 60)[0] for handle in handles)
    finally:
        for handle in handles:
            os.close(handle)
