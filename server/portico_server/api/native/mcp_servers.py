"""``/api/mcp/servers``: the MCP servers of other people that this daemon holds."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from portico_server.api.endpoint import Admin, TheParts
from portico_server.api.endpoint import new_router as new_router
from portico_server.tools.approval import Rule
from portico_server.tools.mcp.host import ServerInfo
from portico_server.tools.mcp.spec import TIMEOUT, parse

router = new_router(prefix="/api/mcp/servers", tags=["MCP servers"])


class Sampling(BaseModel):
    """``max_tokens`` of an answer and ``calls`` an hour that a server may ask of a ``model``."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1)
    max_tokens: int = Field(1_000, gt=0, le=100_000)
    calls: int = Field(60, gt=0, le=100_000)


class NewServer(BaseModel):
    """A server to hold: either a ``command`` to start or a ``url`` to reach.

    ``env`` and ``headers`` may hold secrets and are never shown again. ``allow`` and ``deny`` are patterns of tool
    names. ``prefix`` goes before the names of its tools; left out, it is the server's name and an underscore.
    ``approval``: when somebody is asked before a call; empty: as the setting ``tool_approval`` says. ``sampling``: the
    model that the server itself may ask; left out: none.
    """

    model_config = ConfigDict(extra="forbid")

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


class Server(BaseModel):
    """A server as it stands. ``env`` and ``headers`` are names alone."""

    name: str
    command: list[str]
    url: str
    env: list[str]
    headers: list[str]
    state: str
    error: str | None
    tools: list[str]
    restarts: int
    configured: bool


class ServerList(BaseModel):
    """All of them, by name."""

    data: list[Server]


class ServerLog(BaseModel):
    """Lines of a log, oldest first."""

    data: list[str]


class RemovedServer(BaseModel):
    """What was removed."""

    name: str
    deleted: bool = True


@router.get("")
async def list_mcp_servers(parts: TheParts, _caller: Admin) -> ServerList:
    """The MCP servers of other people whose tools are offered here."""
    return ServerList(data=[_shown(info) for info in parts.mcp.every()])


@router.post("")
async def add_mcp_server(wish: NewServer, parts: TheParts, caller: Admin) -> Server:
    """Hold a server from now on. Answers when it has started or could not; it is then tried again."""
    given: dict[str, Any] = wish.model_dump()
    return _shown(await parts.mcp.add(parse(given, "server"), caller.id))


@router.get("/{name}")
async def get_mcp_server(name: str, parts: TheParts, _caller: Admin) -> Server:
    """One server."""
    return _shown(parts.mcp.get(name))


@router.delete("/{name}")
async def remove_mcp_server(name: str, parts: TheParts, _caller: Admin) -> RemovedServer:
    """End a server and forget it; its tools are gone at once."""
    await parts.mcp.remove(name)
    return RemovedServer(name=name)


@router.post("/{name}/restart")
async def restart_mcp_server(name: str, parts: TheParts, _caller: Admin) -> Server:
    """End a server and start it again."""
    return _shown(await parts.mcp.restart(name))


@router.get("/{name}/logs")
async def read_mcp_server_log(
    name: str, parts: TheParts, _caller: Admin, lines: Annotated[int, Query(ge=1, le=1000)] = 100
) -> ServerLog:
    """The last lines that a server wrote to standard error."""
    return ServerLog(data=await parts.mcp.log(name, lines))


def _shown(info: ServerInfo) -> Server:
    return Server(**asdict(info))
