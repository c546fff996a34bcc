"""MCP servers that an editor passes along with a session. This process connects to them and runs their commands, never
the daemon.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
from acp import schema
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent, Tool

from portico.errors import InvalidRequest, PorticoError

MAX_NAME_CHARS = 64
"""Maximum length of a function's name, in characters; most models accept no more."""

CONNECT_TIMEOUT_S = 60.0
"""Maximum time for starting a server and listing its tools, in seconds."""


@dataclass(frozen=True, slots=True)
class EditorTool:
    """A tool of an editor's server. ``name`` is unique among the tools of the session."""

    name: str
    description: str
    schema: Mapping[str, Any]
    call: Callable[[Mapping[str, Any]], Awaitable[str]]


class EditorServers:
    """The connections to the servers of one session. The ``mcp`` package requires that one task opens and closes
    them.
    """

    def __init__(self, servers: Sequence[Any], folder: Path) -> None:
        self._tools: asyncio.Future[list[EditorTool]] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold(servers, folder))

    async def tools(self) -> list[EditorTool]:
        """Return the tools once all servers are connected. Raise `InvalidRequest` that names the server that fails."""
        return await asyncio.shield(self._tools)

    async def close(self) -> None:
        """Disconnect from the servers, and end the ones that this process started."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._tools.cancel()

    async def _hold(self, servers: Sequence[Any], folder: Path) -> None:
        async with AsyncExitStack() as stack:
            tools: dict[str, EditorTool] = {}
            for server in servers:
                try:
                    async with asyncio.timeout(CONNECT_TIMEOUT_S):
                        client = await stack.enter_async_context(_connection(server, folder))
                        server_tools = await _list_tools(client)
                except Exception as error:  # noqa: BLE001  # the server is the editor's, and fails in any way
                    self._tools.set_exception(_failure(server.name, error))
                    return
                for tool in server_tools:
                    editor_tool = _editor_tool(server.name, client, tool)
                    tools.setdefault(editor_tool.name, editor_tool)
            self._tools.set_result(list(tools.values()))
            await asyncio.get_running_loop().create_future()  # until `close` cancels the task


@asynccontextmanager
async def _connection(server: Any, folder: Path) -> AsyncIterator[Client]:
    if isinstance(server, schema.McpServerStdio):
        variables = {variable.name: variable.value for variable in server.env}
        command = StdioServerParameters(
            command=server.command, args=server.args, env=variables, cwd=str(folder)
        )
        async with Client(command) as client:
            yield client
    elif isinstance(server, schema.McpServerHttp):
        headers = {header.name: header.value for header in server.headers}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=CONNECT_TIMEOUT_S) as http,
            Client(streamable_http_client(server.url, http_client=http)) as client,
        ):
            yield client
    else:
        raise InvalidRequest("only servers over stdio and HTTP are supported")


async def _list_tools(client: Client) -> list[Tool]:
    tools: list[Tool] = []
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            return tools


def _editor_tool(server: str, client: Client, tool: Tool) -> EditorTool:
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", f"{server}_{tool.name}")[:MAX_NAME_CHARS]
    call = partial(_call, client, tool.name)
    return EditorTool(name, tool.description or tool.name, tool.input_schema, call)


async def _call(client: Client, name: str, arguments: Mapping[str, Any]) -> str:
    try:
        result = await client.call_tool(name, dict(arguments))
    except Exception as error:
        raise InvalidRequest(f"The editor's tool '{name}' failed: {error}") from error
    text = _text(result)
    if result.is_error:
        raise InvalidRequest(text)
    return text


def _text(result: CallToolResult) -> str:
    return "\n".join(
        part.text if isinstance(part, TextContent) else f"[{part.type}]" for part in result.content
    )


def _failure(server: str, error: BaseException) -> PorticoError:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    problem = "did not answer in time" if isinstance(error, TimeoutError) else f"failed: {error}"
    return InvalidRequest(f"The MCP server '{server}' of the editor {problem}.", param="mcpServers")
