"""``/api/tool-sources``: the sources of tools that the operator has added."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from portico.schemas.tools import ToolSource
from portico_server.api.endpoint import Admin, TheServices, new_router
from portico_server.api.shapes import Listed, RemovedName
from portico_server.features.tools.entry import TIMEOUT, Rule
from portico_server.features.tools.sources.spec import parse
from portico_server.features.tools.tool import Repeat

router = new_router(prefix="/api/tool-sources", tags=["Tools"])


class NewSource(BaseModel, extra="forbid"):
    """A tool source to add: exactly one of ``command``, ``function``, ``openapi`` and ``database``.

    ``command``: program and arguments, with ``{name}`` as the placeholder of an argument. ``function``:
    ``module:function``, imported from ``folder``, with the packages in ``requirements``; ``module:*`` stands for all
    public functions of a module. ``openapi``: URL or path of an OpenAPI 3 document; each of its operations becomes a
    tool. ``database``: ``postgresql://…`` or the path of a SQLite or DuckDB file, which is opened for reading only.

    ``group``: a heading for lists. ``cost``: US dollars per call. ``env`` and ``headers`` may contain secrets and are
    never shown again. ``approval``: when a call needs approval; if empty, the setting ``tool_approval`` decides.
    ``repeat``: what a resumed run does with a call that was under way when the daemon stopped: make it again with the
    ``same_key`` (default), or ``ask`` a person first.
    """

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
    repeat: Repeat = ""


@router.get("")
async def list_tool_sources(services: TheServices, _caller: Admin) -> Listed[ToolSource]:
    """List the added tool sources by name: commands, functions, APIs and databases."""
    return Listed(data=list(services.added.every()))


@router.post("")
async def add_tool_source(body: NewSource, services: TheServices, caller: Admin) -> ToolSource:
    """Add a tool source. If its tools cannot be prepared immediately, it is refused."""
    return await services.added.add(parse(body.model_dump()), caller.id)


@router.get("/{name}")
async def get_tool_source(name: str, services: TheServices, _caller: Admin) -> ToolSource:
    """Return a tool source."""
    return services.added.get(name)


@router.delete("/{name}")
async def remove_tool_source(name: str, services: TheServices, _caller: Admin) -> RemovedName:
    """Remove a tool source and all its tools."""
    await services.added.remove(name)
    return RemovedName(name=name)
