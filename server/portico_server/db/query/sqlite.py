"""A SQLite file, asked by a process that has it open for reading: SQLite itself refuses everything else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from portico_server.db.query.answer import (
    CELL,
    LONGEST,
    MOST_COLUMNS,
    TIMEOUT,
    Rows,
    Table,
    collected,
    described,
)
from portico_server.db.query.process import ask

_WORKER: Final = Path(__file__).with_name("sqlite_worker.py")
_MEMORY_MB: Final = 1024


class SQLite:
    """A `Source`: the file at ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()

    async def read(self, query: str, parameters: Sequence[Any], *, limit: int, timeout: float) -> Rows:
        found = await self._ask(query, parameters, limit, timeout)
        return collected(found["columns"], found["rows"], limit)

    async def tables(self) -> list[Table]:
        found = await self._ask(None, (), MOST_COLUMNS, TIMEOUT)
        return list(described(map(tuple, found["rows"])))

    async def warning(self) -> str:
        return ""  # a file is opened for reading, without a way to others

    async def _ask(
        self, query: str | None, parameters: Sequence[Any], limit: int, timeout: float
    ) -> dict[str, Any]:
        asked = {
            "path": str(self._path),
            "query": query,
            "parameters": list(parameters),
            "limit": limit,
            "cell": CELL,
            "longest": LONGEST,
            "memory_mb": _MEMORY_MB,
        }
        return await ask(_WORKER, asked, timeout)
