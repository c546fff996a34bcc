"""The resources that all processes of one kernel use together. They are read from /proc, outside the processes'
reach.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from portico_server.core.dataclass import dataclass

FOLDERS: Final = ("work", "tmp", "dev/shm")  # inside the sandbox
"""Folders in which a kernel can write."""

_PAGE: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@dataclass(frozen=True, slots=True)
class Census:
    """The number of processes, the bytes of their private memory, and the number of files in the fullest folder."""

    processes: int
    memory: int
    inodes: int


def take(root: int) -> Census:
    """Count the process ``root`` and all its descendants. Processes that end during the count are not counted."""
    pids = list(dict.fromkeys(_tree(root)))
    inside = pids[1] if len(pids) > 1 else root
    return Census(
        len(pids), sum(_memory(pid) for pid in pids), max(_inodes(inside, name) for name in FOLDERS)
    )


def end(root: int) -> None:
    """Kill bubblewrap, our child process, and the namespace below it.

    If bubblewrap were killed while it starts, it would leave behind a process that waits for it forever. It is
    therefore suspended first, and its children are killed before it.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(root, signal.SIGSTOP)
        # each check takes a few microseconds; it loops until bubblewrap is suspended or has ended
        for _ in range(10_000):
            if _state(root) in "TZX":
                break
        for child in _children(root):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        os.kill(root, signal.SIGKILL)


def _state(pid: int) -> str:
    """Return the state letter of a process as in ps; ``X`` for a process that no longer exists."""
    try:
        return (
            Path("/proc", str(pid), "stat")
            .read_text(encoding="ascii", errors="replace")
            .rpartition(") ")[2][0]
        )
    except (OSError, IndexError):
        return "X"


def _tree(root: int) -> Iterator[int]:
    yield root
    for child in _children(root):
        yield from _tree(child)


def _children(pid: int) -> list[int]:
    child_ids: list[int] = []
    try:
        for task in Path("/proc", str(pid), "task").iterdir():
            child_ids += [int(child) for child in (task / "children").read_text(encoding="ascii").split()]
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/task", str(os.getpid()), "children").exists():
            return child_ids  # the process has ended a moment ago
        import psutil  # needed only if /proc does not list children

        try:
            return [child.pid for child in psutil.Process(pid).children()]
        except psutil.Error:
            return child_ids
    return child_ids


def _memory(pid: int) -> int:
    """Return the resident bytes without file-backed memory.

    File-backed memory is libraries, and the folders, which have a separate limit.
    """
    try:
        _size, resident, shared_pages, *_counts = (
            Path("/proc", str(pid), "statm").read_text(encoding="ascii").split()
        )
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared_pages)) * _PAGE


def _inodes(pid: int, name: str) -> int:
    """Return the number of files in one of the kernel's folders.

    Return 0 while bubblewrap is starting, because the process then still sees our folders.
    """
    root = f"/proc/{pid}/root"
    try:
        if os.path.samefile(root, "/"):
            return 0
        facts = os.statvfs(f"{root}/{name}")
    except OSError:
        return 0
    return facts.f_files - facts.f_ffree
