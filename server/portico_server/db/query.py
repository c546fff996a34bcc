"""Queries of a model or a person against somebody's SQLite file: reading alone, and not for ever."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from portico_server.core.errors import InvalidRequest

LONGEST: Final = 200_000
"""Characters of all cells of an answer together."""

_CELL: Final = 4_000
_VALUE_BYTES: Final = 8 * 1024 * 1024
_STEPS: Final = 5_000
"""Instructions of SQLite's machine between two looks at the clock."""

_ALLOWED: Final = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_RECURSIVE,
    sqlite3.SQLITE_FUNCTION,
}
_FORBIDDEN_FUNCTIONS: Final = {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"}


@dataclass(frozen=True, slots=True)
class Rows:
    """The answer to a query; ``truncated`` if there was more than was asked for or fits."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool


def schema(path: Path) -> str:
    """The statements that made the tables and views of a SQLite file. Raises `InvalidRequest`."""
    found = read(
        path,
        "select sql from sqlite_schema where sql is not null and name not like 'sqlite_%'",
        (),
        limit=1_000,
    )
    return ";\n".join(str(row[0]) for row in found.rows) or "There are no tables."


def read(
    path: Path,
    query: str,
    parameters: Sequence[Any] | Mapping[str, Any],
    *,
    limit: int,
    timeout: float = 30.0,
    left: threading.Event | None = None,
) -> Rows:
    """Up to ``limit`` rows. Raises `InvalidRequest` for what is no query, would change something, or takes longer than
    ``timeout`` seconds. Ends soon after ``left`` is set.
    """
    until = time.monotonic() + timeout

    def over() -> int:
        return int(time.monotonic() > until or (left is not None and left.is_set()))

    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _VALUE_BYTES)
            connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            connection.set_progress_handler(over, _STEPS)
            connection.set_authorizer(_authorize)
            cursor = connection.execute(query, parameters)
            columns = tuple(item[0] for item in cursor.description or ())
            return _collected(columns, cursor, limit)
    except sqlite3.Error as error:
        raise InvalidRequest(_explained(error, timeout), code="query_failed", param="query") from error
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(
            f"The query cannot be run: {error}.", code="query_failed", param="query"
        ) from error


def _collected(columns: tuple[str, ...], cursor: sqlite3.Cursor, limit: int) -> Rows:
    rows: list[tuple[Any, ...]] = []
    size = 0
    for row in cursor:
        cells = tuple(_cell(value) for value in row)
        size += sum(len(cell) if isinstance(cell, str) else 8 for cell in cells)
        if len(rows) == limit or size > LONGEST:
            return Rows(columns, tuple(rows), truncated=True)
        rows.append(cells)
    return Rows(columns, tuple(rows), truncated=False)


def _cell(value: Any) -> Any:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, str) and len(value) > _CELL:
        return f"{value[:_CELL]}… ({len(value)} characters)"
    if isinstance(value, float) and value - value != 0:  # infinity has no form in JSON
        return str(value)
    return value


def _authorize(action: int, first: str | None, second: str | None, *_where: str | None) -> int:
    if action == sqlite3.SQLITE_FUNCTION and str(second).lower() in _FORBIDDEN_FUNCTIONS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _explained(error: sqlite3.Error, timeout: float) -> str:
    text = str(error)
    if "interrupted" in text:
        return f"The query was stopped after {timeout:g} s."
    if "not authorized" in text or "prohibited" in text or "readonly" in text:
        return "Only reading is allowed here: one SELECT (or WITH … SELECT), no PRAGMA, no ATTACH."
    return f"The query failed: {text[:500]}."
