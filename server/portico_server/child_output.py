"""The standard error output of a child process: its last lines, and a log of limited size on disk."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

LOG_BYTES: Final = 4 * 1024 * 1024
"""Size of a log, in bytes, above which it is emptied."""


async def transcribe(
    stream: asyncio.StreamReader, path: Path, lines: deque[str], on_text: Callable[[str], None] | None = None
) -> None:
    """Copy ``stream`` to the file ``path`` and, line by line, to ``lines``, until it ends.

    ``on_text`` is called with each piece as it arrives, even within a line.
    """
    remainder = b""
    with path.open("ab") as file:
        while data := await stream.read(65_536):
            if file.tell() > LOG_BYTES:
                file.truncate(0)
            file.write(data)
            file.flush()
            if on_text is not None:
                on_text(data.decode("utf-8", "replace"))
            *complete_lines, remainder = (remainder + data).split(b"\n")
            lines.extend(line.decode("utf-8", "replace") for line in complete_lines)
            remainder = remainder[-65_536:]
    if remainder:
        lines.append(remainder.decode("utf-8", "replace"))
