"""A DuckDB file, asked by a process that has it open for reading, without any way to other files or the network."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from portico._installed import how_to_add
from portico_server.core.errors import Unavailable
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

_WORKER: Final = Path(__file__).with_name("duckdb_worker.py")
_MEMORY_MB: Final = 1024


class DuckDB:
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
        if find_spec("duckdb") is None:
            raise Unavailable(
                f"DuckDB is not installed here. Install it, and start the daemon again: {how_to_add('sql')}",
                code="not_installed",
            )
        asked = {
            "path": str(self._path),
            "query": query,
            "parameters": list(parameters),
            "limit": limit,
            "memory_mb": _MEMORY_MB,
            "cell": CELL,
            "longest": LONGEST,
        }
        return await ask(_WORKER, asked, timeout)
