"""A query of a database file in a process of its own, which can be ended whatever the database is busy with.

A thread could not: SQLite and DuckDB look at a deadline between their steps, and one step may take hours.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from portico_server.core.errors import InvalidRequest
from portico_server.subprocesses import run_isolated

_START_S: Final = 5.0
"""Seconds that a process may take to start, besides the query's own time."""


async def ask(worker: Path, asked: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """What the worker says to ``asked``, or `InvalidRequest` if that takes longer than ``timeout`` seconds or fails."""
    begun = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(timeout + _START_S):
            said = await _run(worker, json.dumps({**asked, "seconds": timeout}).encode())
    except TimeoutError as error:
        raise _failed(f"The query was stopped after {timeout:g} s.") from error
    except ValueError as error:
        raise _failed(f"The query cannot be run: {error}.") from error
    if not said and asyncio.get_running_loop().time() - begun >= timeout:
        raise _failed(f"The query was stopped after {timeout:g} s.")
    if not said:
        raise _failed("The query ended its process: it took more memory than there is for it.")
    answer: dict[str, Any] = json.loads(said)
    if "error" in answer:
        raise _failed(" ".join(str(answer["error"]).split())[:600])
    return answer


async def _run(worker: Path, asked: bytes) -> bytes:
    """What the worker says; it does not outlive a caller who leaves."""
    process = await asyncio.create_subprocess_exec(
        *run_isolated(str(worker)),
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


def _failed(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="query_failed", param="query")
