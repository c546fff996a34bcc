"""Documents read as an ingest reads them: bytes under a name, in a worker."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

from portico_server.features.chunkers.document import Part
from portico_server.features.readers.pool import ReaderPool


class Reading:
    """Reads bytes under a name, in a worker."""

    def __init__(self, readers: ReaderPool, folder: Path) -> None:
        self._readers = readers
        self._folder = folder

    async def __call__(self, name: str, data: bytes, chunking: dict[str, object] | None = None) -> list[Part]:
        path = self._folder / "blob"
        path.write_bytes(data)
        parts: list[Part] = []
        async with aclosing(self._readers.read(path, name, chunking)) as runs:
            async for run in runs:
                parts.extend(run)
        return parts


def stand_in_one_text(parts: list[Part]) -> bool:
    """Return whether the places of parts follow each other without overlap, each as long as its text."""
    ends = 0
    for part in parts:
        if part.place.start < ends or part.place.end - part.place.start != len(part.text):
            return False
        ends = part.place.end
    return True
