"""``/api/mcp/servers``: the external MCP servers that this daemon uses."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, Field

from portico.schemas.mcp_servers import McpContent, McpPrompt, McpPromptMessage, McpResource, McpServer
from portico_server.api.endpoint import Admin, TheServices, new_router
from portico_server.api.shapes import Listed, RemovedName
from portico_server.features.mcp_servers.spec import parse
from portico_server.features.tools.entry import TIMEOUT, Rule
from portico_server.features.tools.tool import Repeat

MAX_URI_CHARS = 4_000
"""Maximum length of a resource URI, in characters."""

MAX_ARGUMENTS = 100
"""Maximum number of arguments of a prompt."""

router = new_router(prefix="/api/mcp/servers", tags=["MCP servers"])


class Sampling(BaseModel, extra="forbid"):
    """Limits on a server's use of a ``model``: ``max_tokens`` per answer and ``calls`` per hour."""

    model: str = Field(min_length=1)
    max_tokens: int = Field(1_000, gt=0, le=100_000)
    calls: int = Field(60, gt=0, le=100_000)


class NewServer(BaseModel, extra="forbid"):
    """A server to add: either a ``command`` to start or a ``url`` to connect to.

    ``env`` and ``headers`` may contain secrets and are never shown again. ``allow`` and ``deny`` are patterns of tool
    names. ``prefix`` precedes the names of the server's tools; by default it is the server's name and an underscore.
    ``approval``: when a call needs approval; if empty, the setting ``tool_approval`` decides. ``repeat``: what a
    resumed run does with a call that was under way when the daemon stopped: make it again with the ``same_key``
    (default), or ``ask`` a person first. ``sampling``: the model that the server itself may call; by default none.
    """

    name: str
    command: list[str] = []
    url: str = ""
    env: dict[str, str] = {}
    headers: dict[str, str] = {}
    folder: str = ""
    allow: list[str] = []
    deny: list[str] = []
    prefix: str | None = None
    timeout: float = TIMEOUT
    approval: Rule = ""
    repeat: Repeat = ""
    sampling: Sampling | None = None


class WantedResource(BaseModel, extra="forbid"):
    """The URI of a resource, with the placeholders of a template filled in."""

    uri: str = Field(min_length=1, max_length=MAX_URI_CHARS)


class WantedPrompt(BaseModel, extra="forbid"):
    """A prompt, identified by its name on the server, and its ``arguments``."""

    name: str = Field(min_length=1, max_length=MAX_URI_CHARS)
    arguments: dict[str, str] = Field({}, max_length=MAX_ARGUMENTS)


@router.get("")
async def list_mcp_servers(services: TheServices, _caller: Admin) -> Listed[McpServer]:
    """List the external MCP servers whose tools this daemon offers, by name."""
    return Listed(data=list(services.mcp.every()))


@router.post("")
async def add_mcp_server(body: NewServer, services: TheServices, caller: Admin) -> McpServer:
    """Add a server. The response is sent when the server has started or failed to start; a failed start is retried."""
    server_fields: dict[str, Any] = body.model_dump()
    return await services.mcp.add(parse(server_fields, "server"), caller.id)


@router.get("/{name}")
async def get_mcp_server(name: str, services: TheServices, _caller: Admin) -> McpServer:
    """Return an MCP server."""
    return services.mcp.get(name)


@router.delete("/{name}")
async def remove_mcp_server(name: str, services: TheServices, _caller: Admin) -> RemovedName:
    """Stop a server and remove it; its tools disappear immediately."""
    await services.mcp.remove(name)
    return RemovedName(name=name)


@router.post("/{name}/restart")
async def restart_mcp_server(name: str, services: TheServices, _caller: Admin) -> McpServer:
    """Restart a server."""
    return await services.mcp.restart(name)


@router.get("/{name}/logs")
async def read_mcp_server_log(
    name: str, services: TheServices, _caller: Admin, lines: Annotated[int, Query(ge=1, le=1000)] = 100
) -> Listed[str]:
    """Return the last lines that a server wrote to standard error."""
    return Listed(data=await services.mcp.log(name, lines))


@router.get("/{name}/resources")
async def list_mcp_resources(name: str, services: TheServices, _caller: Admin) -> Listed[McpResource]:
    """List the resources of a server, followed by its URI templates."""
    return Listed(data=await services.mcp.resources(name))


@router.post("/{name}/resources/read")
async def read_mcp_resource(
    name: str, body: WantedResource, services: TheServices, _caller: Admin
) -> Listed[McpContent]:
    """Read a resource of a server: text, or bytes as base64."""
    return Listed(data=await services.mcp.read(name, body.uri))


@router.get("/{name}/prompts")
async def list_mcp_prompts(name: str, services: TheServices, _caller: Admin) -> Listed[McpPrompt]:
    """List the prompts of a server with their arguments."""
    return Listed(data=await services.mcp.prompts(name))


@router.post("/{name}/prompts/render")
async def render_mcp_prompt(
    name: str, body: WantedPrompt, services: TheServices, _caller: Admin
) -> Listed[McpPromptMessage]:
    """Return the messages of a prompt after the server has filled in the arguments."""
    return Listed(data=await services.mcp.prompt(name, body.name, body.arguments))
