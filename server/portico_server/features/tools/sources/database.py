"""A database of the operator as tools: ``NAME`` runs queries, ``NAME_schema`` lists the tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.request import ToolResult
from portico_server.db.query.source import QUERY_TIMEOUT_S, is_server, open_source
from portico_server.features.tools import database
from portico_server.features.tools.sources.spec import ToolSpec
from portico_server.features.tools.tool import Tool


async def tools_of(spec: ToolSpec) -> tuple[list[Tool], str]:
    """Return the tools ``NAME`` and ``NAME_schema``, and a warning for the operator.

    Raises `PorticoError` if the database cannot be read now.
    """
    server = is_server(spec.database)
    address = spec.database if server else str(Path(spec.folder, spec.database))
    source = await pools.FILES.run(open_source, address)
    await source.tables()
    warning = await source.warning()
    timeout = min(QUERY_TIMEOUT_S, spec.timeout)
    about = spec.description or f"The database {spec.name}."

    async def query(arguments: Mapping[str, Any], context: Context) -> ToolResult:
        return await database.answer(source, arguments, context.caller.id, timeout)

    async def schema(_arguments: Mapping[str, Any], context: Context) -> ToolResult:
        return await database.tables(source, context.caller.id)

    tools = [
        Tool(
            name=spec.name,
            title=spec.name,
            description=f"{about} Queries, read-only; '{spec.name}_schema' lists the tables.",
            input_schema={
                "type": "object",
                "properties": dict(database.QUERY),
                "required": ["query"],
                "additionalProperties": False,
            },
            output_schema=database.ROWS,
            work=query,
            open_world=server,
            timeout=spec.timeout,
            source="database",
        ),
        Tool(
            name=f"{spec.name}_schema",
            title=f"Tables of {spec.name}",
            description=f"{about} Its tables and their columns.",
            input_schema={"type": "object", "properties": {}, "additionalProperties": False},
            output_schema=database.TABLES,
            work=schema,
            open_world=server,
            timeout=spec.timeout,
            source="database",
        ),
    ]
    return tools, warning
