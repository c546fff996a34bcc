"""``/api/tool-sources``: the tools that the operator has added."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict

from portico_server.api.depends import TheParts
from portico_server.api.native.rights import Admin
from portico_server.api.router import router as new_router
from portico_server.tools.added.added import SourceInfo
from portico_server.tools.added.spec import TIMEOUT, parse
from portico_server.tools.approval import Rule

router = new_router(prefix="/api/tool-sources", tags=["Tools"])


class NewSource(BaseModel):
    """A tool to add: exactly one of ``command``, ``function``, ``openapi`` and ``database``.

    ``command``: program and arguments, with ``{name}`` where an argument of a call goes. ``function``:
    ``module:function``, looked for in ``folder``, with the packages ``requirements``; ``module:*`` are all public
    functions of a module. ``openapi``: URL or path of an OpenAPI 3 document, each of whose
    operations becomes a tool. ``database``: ``postgresql://…`` or the path of a SQLite or DuckDB file, read and never
    written. ``group``: a heading to find it under. ``cost``: US dollars a call. ``env`` and ``headers`` may hold
    secrets and are never shown again. ``approval``: when somebody is asked before a call; empty: as the setting
    ``tool_approval`` says.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    command: list[str] = []
    function: str = ""
    openapi: str = ""
    database: str = ""
    group: str = ""
    description: str = ""
    parameters: dict[str, dict[str, Any]] = {}
    folder: str = ""
    requirements: list[str] = []
    env: dict[str, str] = {}
    python: str = ""
    url: str = ""
    headers: dict[str, str] = {}
    allow: list[str] = []
    deny: list[str] = []
    read_only: bool = False
    timeout: float = TIMEOUT
    cost: float = 0.0
    approval: Rule = ""


class Source(BaseModel):
    """An addition as it stands, and the names of its tools. ``warning``: what its operator should change."""

    name: str
    kind: str
    what: str
    state: str
    error: str | None
    warning: str
    tools: list[str]
    configured: bool


class SourceList(BaseModel):
    """All of them, by name."""

    data: list[Source]


class RemovedSource(BaseModel):
    """What was removed."""

    name: str
    deleted: bool = True


@router.get("")
async def list_tool_sources(parts: TheParts, _caller: Admin) -> SourceList:
    """The tools that were added: commands, functions, APIs and databases."""
    return SourceList(data=[_shown(info) for info in parts.added.every()])


@router.post("")
async def add_tool_source(wish: NewSource, parts: TheParts, caller: Admin) -> Source:
    """Add a tool from now on. What cannot be prepared at once is refused."""
    return _shown(await parts.added.add(parse(wish.model_dump()), caller.id))


@router.get("/{name}")
async def get_tool_source(name: str, parts: TheParts, _caller: Admin) -> Source:
    """One addition."""
    return _shown(parts.added.get(name))


@router.delete("/{name}")
async def remove_tool_source(name: str, parts: TheParts, _caller: Admin) -> RemovedSource:
    """Take an addition out again, with all its tools."""
    await parts.added.remove(name)
    return RemovedSource(name=name)


def _shown(info: SourceInfo) -> Source:
    return Source(**asdict(info))
