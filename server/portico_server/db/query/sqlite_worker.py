"""Runs one query on a SQLite file in a separate process. Imports only the standard library, nothing from Portico.

Standard input is ``{"path", "query", "parameters", "limit", "cell", "longest", "seconds", "memory_mb"}``. The answer
is ``{"columns", "rows"}`` with up to ``limit + 1`` rows, up to ``cell`` characters in each cell, and up to ``longest``
characters in all rows, or ``{"error"}``. If the query is null, the rows are (table, kind, column, type). SQLite itself
rejects all statements except reads, because of its open mode and an authorizer.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

_VALUE_BYTES = 8 * 1024 * 1024
_STEPS = 5_000  # SQLite instructions between two checks of the clock

_ALLOWED = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_RECURSIVE,
    sqlite3.SQLITE_FUNCTION,
}
_FORBIDDEN_FUNCTIONS = {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"}

_TABLES = """
select m.name, m.type, p.name, p.type from sqlite_schema m join pragma_table_info(m.name) p
where m.type in ('table', 'view') and m.name not like 'sqlite\\_%' escape '\\' order by m.name, p.cid
"""


def main() -> None:
    """Run the query, write the answer to standard output, and exit."""
    request = json.load(sys.stdin)
    # Ends this process even if its parent process no longer exists, or if SQLite does not check the clock.
    signal.setitimer(signal.ITIMER_REAL, request["seconds"] + 1)
    _limit_memory(request["memory_mb"] * 2**20)
    try:
        answer = _answer(request)
    except sqlite3.Error as error:
        answer = {"error": _explained(error, request["seconds"])}
    except MemoryError:
        answer = {"error": "The query was stopped because it needed more memory than is available."}
    except (ValueError, OverflowError) as error:
        answer = {"error": f"The query cannot be run: {error}."}
    json.dump(answer, sys.stdout)


def _limit_memory(size: int) -> None:
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    until = time.monotonic() + request["seconds"]
    address = f"{Path(request['path']).as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=5)) as connection:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _VALUE_BYTES)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        connection.set_progress_handler(lambda: int(time.monotonic() > until), _STEPS)
        if request["query"] is None:
            return {"columns": [], "rows": connection.execute(_TABLES).fetchmany(request["limit"])}
        connection.set_authorizer(_authorize)
        cursor = connection.execute(request["query"], request["parameters"])
        columns = [item[0] for item in cursor.description or ()]
        rows: list[list[Any]] = []
        size = 0
        for row in cursor:
            cells = [_cell(value, request["cell"]) for value in row]
            rows.append(cells)
            size += sum(len(value) if isinstance(value, str) else 8 for value in cells)
            if len(rows) > request["limit"] or size > request["longest"]:
                break
        return {"columns": columns, "rows": rows}


def _authorize(action: int, first: str | None, second: str | None, *_where: str | None) -> int:
    if action == sqlite3.SQLITE_FUNCTION and str(second).lower() in _FORBIDDEN_FUNCTIONS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _cell(value: Any, limit: int) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return str(value) if value - value != 0 else value
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    text = str(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def _explained(error: sqlite3.Error, seconds: float) -> str:
    text = str(error)
    if "interrupted" in text:
        return f"The query was stopped after {seconds:g} s."
    if "not authorized" in text or "prohibited" in text or "readonly" in text:
        return "Only reading is allowed here: one SELECT (or WITH … SELECT), no PRAGMA, no ATTACH."
    return f"The query failed: {text[:500]}."


if __name__ == "__main__":
    main()
