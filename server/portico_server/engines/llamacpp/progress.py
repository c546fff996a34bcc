"""How far llama.cpp has come with loading a model, as far as the system can see it.

Its Python package has no callback for this, and its log is silent about it. But the files are mapped and read from
their beginning to their end, and what is read of them counts as memory that the process shares, on Linux.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from portico_server.core import pools
from portico_server.engines.child import Watch
from portico_server.engines.gguf import parts

Report = Callable[[str, int | None], None]

LOOK = 0.2
"""Seconds between two looks."""


def watching(files: Iterable[str], report: Report | None) -> Watch | None:
    """Tells ``report`` of the stage ``load`` in percent of the bytes of ``files``, and of ``warm-up`` once all of them
    are read. Libraries count too, some ten MB: of a small model the percentage is a little ahead.
    """
    if report is None:
        return None
    paths = [part for file in files if file for part in parts(Path(file))]

    async def watch(pid: int) -> None:
        before = shared(pid)
        size = await pools.MODELS.run(_size, paths)
        while before is not None and (now := shared(pid)) is not None:
            percent = 100 * max(0, now - before) // max(1, size)
            if percent >= 100:
                report("warm-up", None)
                return
            if percent:
                report("load", percent)
            # Nothing announces that memory was read.
            await asyncio.sleep(LOOK)

    return watch


def _size(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())


def shared(pid: int) -> int | None:
    """Bytes of files and shared memory in a process's memory; ``None`` if the system does not say or it is gone."""
    import psutil  # takes a moment to import, and nobody asks for it at start

    try:
        found = getattr(psutil.Process(pid).memory_info(), "shared", None)
    except psutil.Error:
        return None
    return int(found) if found is not None else None
