"""A DuckDB file, asked by a process that has it open for reading, without any way to other files or the network.

A process per query: DuckDB takes what memory it can get, and cannot be stopped in all that it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from portico_server.core.errors import InvalidRequest, Unavailable
from portico_server.db.query.answer import CELL, MOST_COLUMNS, TIMEOUT, Rows, Table, collected, described
from portico_server.interpreter import run_isolated

_WORKER: Final = Path(__file__).with_name("duckdb_worker.py")
_MEMORY_MB: Final = 1024
_AT_ONCE: Final = 2
"""Queries that run at a time; further ones wait."""


class DuckDB:
    """A `Source`: the file at ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def read(self, query: str, parameters: Sequence[Any], *, limit: int, timeout: float) -> Rows:
        found = await self._ask(query, parameters, limit, timeout)
        return collected(found["columns"], found["rows"], limit)

    async def tables(self) -> list[Table]:
        found = await self._ask(None, (), MOST_COLUMNS, TIMEOUT)
        return list(described(map(tuple, found["rows"])))

    async def _ask(
        self, query: str | None, parameters: Sequence[Any], limit: int, timeout: float
    ) -> dict[str, Any]:
        if find_spec("duckdb") is None:
            raise Unavailable(
                "DuckDB is not installed here: pip install 'portico[sql]', and start the daemon again.",
                code="not_installed",
            )
        asked = {
            "path": str(self._path),
            "query": query,
            "parameters": list(parameters),
            "limit": limit,
            "memory_mb": _MEMORY_MB,
            "cell": CELL,
        }
        async with self._turns:
            try:
                async with asyncio.timeout(timeout):
                    said = await _run(json.dumps(asked).encode())
            except TimeoutError as error:
                raise InvalidRequest(
                    f"The query was stopped after {timeout:g} s.", code="query_failed", param="query"
                ) from error
        try:
            answer: dict[str, Any] = json.loads(said)
        except ValueError as error:
            raise InvalidRequest(
                "The query ended its process: it took more memory than there is for it.",
                code="query_failed",
                param="query",
            ) from error
        if "error" in answer:
            reason = " ".join(str(answer["error"]).split())[:500]
            raise InvalidRequest(f"The query failed: {reason}.", code="query_failed", param="query")
        return answer


async def _run(asked: bytes) -> bytes:
    """What the worker says; it does not outlive a caller who leaves."""
    process = await asyncio.create_subprocess_exec(
        *run_isolated(str(_WORKER)),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env={},
        start_new_session=True,
    )
    try:
        said, _ = await process.communicate(asked)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(process.wait())
    return said
