"""Runs one query on a DuckDB file in a separate process. Imports only the standard library and DuckDB, nothing from
Portico.

Standard input is ``{"path", "query", "parameters", "limit", "cell", "longest", "seconds", "memory_mb"}``. The answer
is ``{"columns", "rows"}`` with up to ``limit + 1`` rows, up to ``cell`` characters in each cell, and up to ``longest``
characters in all rows, or ``{"error"}``. If the query is null, the rows are (table, kind, column, type).
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

import duckdb

_TABLES = """
select table_name, case when table_type = 'VIEW' then 'view' else 'table' end, column_name, data_type
from information_schema.columns join information_schema.tables using (table_catalog, table_schema, table_name)
where table_schema not in ('information_schema', 'pg_catalog') order by table_schema, table_name, ordinal_position
"""


def main() -> None:
    """Run the query, write the answer to standard output, and exit."""
    request = json.load(sys.stdin)
    # Ends this process even if its parent process no longer exists.
    signal.setitimer(signal.ITIMER_REAL, request["seconds"])
    try:
        answer = _answer(request)
    except duckdb.Error as error:
        answer = {"error": f"The query failed: {error}."}
    json.dump(answer, sys.stdout, default=_text, allow_nan=True)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    connection = duckdb.connect(
        request["path"],
        read_only=True,
        config={
            "enable_external_access": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "memory_limit": f"{request['memory_mb']}MB",
            "max_temp_directory_size": "0MB",
            "threads": 2,
            "lock_configuration": True,
        },
    )
    query = _TABLES if request["query"] is None else request["query"]
    statements = connection.extract_statements(query)
    kinds = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
    if len(statements) != 1 or statements[0].type not in kinds:
        return {"error": "Only reading is allowed here: one SELECT (or WITH … SELECT)."}
    py_connection = connection.execute(query, request["parameters"])
    columns = [item[0] for item in py_connection.description or ()]
    cut = request["cell"]
    rows: list[list[Any]] = []
    size = 0
    while (
        len(rows) <= request["limit"]
        and size <= request["longest"]
        and (row := py_connection.fetchone()) is not None
    ):
        rows.append([_cut(value, cut) for value in row])
        size += sum(len(value) if isinstance(value, str) else 8 for value in rows[-1])
    return {"columns": columns, "rows": rows}


def _cut(value: Any, limit: int) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, float) and value - value != 0:
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else _text(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def _text(value: Any) -> str:
    return (
        json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
    )


if __name__ == "__main__":
    main()
