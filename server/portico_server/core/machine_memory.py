"""The memory that this process can fill: the machine's, or less in a container."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from portico_server.core.words import whole_number

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def machine_memory() -> int:
    """Return the memory of the machine or of its control group, in bytes."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in _CGROUP_LIMITS:
        with contextlib.suppress(OSError):
            memory = parse_memory_limit(path.read_text(), memory)
    return memory


def parse_memory_limit(text: str, memory_bytes: int) -> int:
    """Return the machine's memory, or the limit of a control group if that is smaller. ``max`` means no limit."""
    limit = whole_number(text.strip())
    return memory_bytes if limit is None else min(limit, memory_bytes)
