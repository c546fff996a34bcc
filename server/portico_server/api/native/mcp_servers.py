"""``/api/mcp/servers``: the MCP servers of other people that this daemon holds."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, Field

from portico_server.api.endpoint import Admin, TheServices
from portico_server.api.endpoint import new_router as new_router
from portico_server.api.shapes import Listed, RemovedName
from portico_server.tools.approval import Rule
from portico_server.tools.entry import TIMEOUT
from portico_server.tools.mcp.host import ServerInfo
from portico_server.tools.mcp.spec import parse

router = new_router(prefix="/api/mcp/servers", tags=["MCP servers"])


class Sampling(BaseModel, extra="forbid"):
    """``max_tokens`` of an answer and ``calls`` an hour that a server may ask of a ``model``."""

    model: str = Field(min_length=1)
    max_tokens: int = Field(1_000, gt=0, le=100_000)
    calls: int = Field(60, gt=0, le=100_000)


class NewServer(BaseModel, extra="forbid"):
    """A server to hold: either a ``command`` to start or a ``url`` to reach.

    ``env`` and ``headers`` may hold secrets and are never shown again. ``allow`` and ``deny`` are patterns of tool
    names. ``prefix`` goes before the names of its tools; left out, it is the server's name and an underscore.
    ``approval``: when somebody is asked before a call; empty: as the setting ``tool_approval`` says. ``sampling``: the
    model that the server itself may ask; left out: none.
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
    sampling: Sampling | None = None


@router.get("")
async def list_mcp_servers(services: TheServices, _caller: Admin) -> Listed[ServerInfo]:
    """The MCP servers of other people whose tools are offered here, by name."""
    return Listed(data=list(services.mcp.every()))


@router.post("")
async def add_mcp_server(body: NewServer, services: TheServices, caller: Admin) -> ServerInfo:
    """Hold a server from now on. Answers when it has started or could not; it is then tried again."""
    given: dict[str, Any] = body.model_dump()
    return await services.mcp.add(parse(given, "server"), caller.id)


@router.get("/{name}")
async def get_mcp_server(name: str, services: TheServices, _caller: Admin) -> ServerInfo:
    """One server."""
    return services.mcp.get(name)


@router.delete("/{name}")
async def remove_mcp_server(name: str, services: TheServices, _caller: Admin) -> RemovedName:
    """End a server and forget it; its tools are gone at once."""
    await services.mcp.remove(name)
    return RemovedName(name=name)


@router.post("/{name}/restart")
async def restart_mcp_server(name: str, services: TheServices, _caller: Admin) -> ServerInfo:
    """End a server and start it again."""
    return await services.mcp.restart(name)


@router.get("/{name}/logs")
async def read_mcp_server_log(
    name: str, services: TheServices, _caller: Admin, lines: Annotated[int, Query(ge=1, le=1000)] = 100
) -> Listed[str]:
    """The last lines that a server wrote to standard error."""
    return Listed(data=await services.mcp.log(name, lines))
