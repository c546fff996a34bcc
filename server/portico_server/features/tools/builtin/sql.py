"""Queries the SQLite and DuckDB files in the folders that the operator has declared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import PorticoError
from portico_server.core.request import ToolResult
from portico_server.db.query.source import QuerySource, open_file
from portico_server.features.tools import database
from portico_server.features.tools.folders import Folders
from portico_server.features.tools.tool import Tool

_DATABASE: Final = {
    "type": "string",
    "minLength": 1,
    "description": "FOLDER/… of the database file.",
}


def tool(folders: Folders) -> Tool:
    """Return ``sql``, which returns the rows of a query."""

    async def work(arguments: Mapping[str, Any], context: Context) -> ToolResult:
        try:
            source = await pools.FILES.run(_open, folders, arguments["database"])
        except PorticoError as error:
            return ToolResult(error.message, is_error=True)
        return await database.answer(source, arguments, context.caller.id)

    return Tool(
        name="sql",
        title="Query a database",
        description=(
            f"Query a SQLite or DuckDB file, read-only; 'sql_schema' lists its tables. The folders are: "
            f"{', '.join(folders.roots)}."
        ),
        input_schema={
            "type": "object",
            "properties": {"database": _DATABASE, **database.QUERY},
            "required": ["database", "query"],
            "additionalProperties": False,
        },
        output_schema=database.ROWS,
        work=work,
        group="files",
    )


def schema_tool(folders: Folders) -> Tool:
    """Return ``sql_schema``, which lists the tables of a database file."""

    async def work(arguments: Mapping[str, Any], context: Context) -> ToolResult:
        try:
            source = await pools.FILES.run(_open, folders, arguments["database"])
        except PorticoError as error:
            return ToolResult(error.message, is_error=True)
        return await database.tables(source, context.caller.id)

    return Tool(
        name="sql_schema",
        title="Tables of a database",
        description=f"The tables of a SQLite or DuckDB file. The folders are: {', '.join(folders.roots)}.",
        input_schema={
            "type": "object",
            "properties": {"database": _DATABASE},
            "required": ["database"],
            "additionalProperties": False,
        },
        output_schema=database.TABLES,
        work=work,
        group="files",
    )


def _open(folders: Folders, path: str) -> QuerySource:
    return open_file(folders.find(path))
