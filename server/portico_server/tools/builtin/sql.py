"""Ask a SQLite database in the folders that the operator has declared."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

from portico_server.core.context import Context
from portico_server.core.errors import PorticoError
from portico_server.core.request import ToolResult
from portico_server.db import query as queries
from portico_server.tools.folders import Folders
from portico_server.tools.tool import Tool


def tool(folders: Folders) -> Tool:
    """``sql``: the schema of a database, or the rows that a query finds."""

    async def work(arguments: Mapping[str, Any], _context: Context) -> ToolResult:
        left = threading.Event()
        try:
            return await asyncio.to_thread(_work, arguments, folders, left)
        except PorticoError as error:
            return ToolResult(error.message, is_error=True)
        finally:
            left.set()

    return Tool(
        name="sql",
        title="Query a database",
        description=(
            f"Query a SQLite database file, read-only. Without a query: its schema. The folders are: "
            f"{', '.join(folders.roots)}."
        ),
        input_schema={
            "type": "object",
            "properties": {
                "database": {
                    "type": "string",
                    "minLength": 1,
                    "description": "FOLDER/… of the database file.",
                },
                "query": {"type": "string", "description": "One SELECT; ? stands for a parameter."},
                "parameters": {"type": "array", "items": {"type": ["string", "number", "boolean", "null"]}},
                "max_rows": {"type": "integer", "minimum": 1, "maximum": 1_000, "default": 100},
            },
            "required": ["database"],
            "additionalProperties": False,
        },
        work=work,
    )


def _work(arguments: Mapping[str, Any], folders: Folders, left: threading.Event) -> ToolResult:
    path = folders.find(arguments["database"])
    if not path.is_file():
        return ToolResult(f"'{arguments['database']}' is no database file.", is_error=True)
    query = arguments.get("query", "").strip()
    if not query:
        schema = queries.schema(path)
        return ToolResult(schema, {"schema": schema})
    found = queries.read(
        path, query, arguments.get("parameters", ()), limit=int(arguments.get("max_rows", 100)), left=left
    )
    lines = [" | ".join(found.columns), *(" | ".join(map(_text, row)) for row in found.rows)]
    if found.truncated:
        lines.append("[There are more rows.]")
    told = {
        "columns": list(found.columns),
        "rows": [list(row) for row in found.rows],
        "truncated": found.truncated,
    }
    return ToolResult("\n".join(lines), told)


def _text(value: Any) -> str:
    return "" if value is None else " ".join(str(value).split())
