"""Databases as tools. Each database becomes two tools: one lists its tables, and one runs a query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from portico_server.core.errors import PorticoError
from portico_server.core.request import ToolResult
from portico_server.core.work_slots import Slots
from portico_server.db.query.source import QUERY_TIMEOUT_S, QueryRows, QuerySource, TableInfo

QUERY: Final[Mapping[str, Any]] = {
    "query": {
        "type": "string",
        "minLength": 1,
        "maxLength": 100_000,
        "description": "One SELECT, or WITH … SELECT.",
    },
    "parameters": {
        "type": "array",
        "items": {"type": ["string", "number", "boolean", "null"]},
        "description": "Values for the places in the query: ? in SQLite and DuckDB, $1, $2 … in PostgreSQL.",
    },
    "max_rows": {"type": "integer", "minimum": 1, "maximum": 1_000, "default": 100},
}
"""The arguments of a query."""

ROWS: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "columns": {"type": "array", "items": {"type": "string"}},
        "rows": {"type": "array", "items": {"type": "array"}},
        "truncated": {"type": "boolean", "description": "There are more rows."},
    },
    "required": ["columns", "rows", "truncated"],
}

TABLES: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "tables": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "kind": {"enum": ["table", "view"]},
                    "columns": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {"name": {"type": "string"}, "type": {"type": "string"}},
                            "required": ["name", "type"],
                        },
                    },
                },
                "required": ["name", "kind", "columns"],
            },
        }
    },
    "required": ["tables"],
}


_QUERIES: Final = Slots("database queries", 4, per_key=2)
"""Limit of concurrent queries."""


async def answer(
    source: QuerySource, arguments: Mapping[str, Any], caller: str, timeout: float = QUERY_TIMEOUT_S
) -> ToolResult:
    """Return the rows of a query that ``caller`` runs. If the query fails, return the error as a result."""
    try:
        async with _QUERIES.hold(caller):
            query_rows = await source.read(
                arguments["query"],
                arguments.get("parameters", ()),
                limit=int(arguments.get("max_rows", 100)),
                timeout=timeout,
            )
    except PorticoError as error:
        return ToolResult(error.message, is_error=True)
    return _rows(query_rows)


async def tables(source: QuerySource, caller: str) -> ToolResult:
    """Return all tables and views with their columns."""
    try:
        async with _QUERIES.hold(caller):
            table_infos = await source.tables()
    except PorticoError as error:
        return ToolResult(error.message, is_error=True)
    text = "\n".join(map(_line, table_infos)) or "No tables exist."
    table_documents = [
        {
            "name": table.name,
            "kind": table.kind,
            "columns": [{"name": name, "type": kind} for name, kind in table.columns],
        }
        for table in table_infos
    ]
    return ToolResult(text, {"tables": table_documents})


def _rows(query_rows: QueryRows) -> ToolResult:
    lines = [_join(query_rows.columns), *map(_join, query_rows.rows)]
    if query_rows.truncated:
        lines.append("[There are more rows.]")
    result = {
        "columns": list(query_rows.columns),
        "rows": [list(row) for row in query_rows.rows],
        "truncated": query_rows.truncated,
    }
    return ToolResult("\n".join(lines), result)


def _join(cells: Sequence[Any]) -> str:
    return " | ".join("" if value is None else " ".join(str(value).split()) for value in cells)


def _line(table: TableInfo) -> str:
    columns = ", ".join(f"{name} {kind}".rstrip() for name, kind in table.columns)
    return f"{table.kind} {table.name} ({columns})"
