"""What the hosted tools of one response share: the event builder, the run, what was found and made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol, TypeAlias

from portico.schemas.artifacts import Artifact
from portico.wire import Passage
from portico_server.apps.responses.event_builder import EventBuilder
from portico_server.apps.responses.items import Item
from portico_server.apps.responses.open_items import Event
from portico_server.apps.responses.request import FunctionTool, ResponseRequest
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.request import CalledTool, Filter
from portico_server.core.skills import ContainerPlaces, SkillTexts
from portico_server.core.tool_search import SearchedTool, ToolSearch

Emit: TypeAlias = Callable[[Sequence[Event]], Awaitable[None]]
"""Tell the client; waits while it is too far behind."""


class ResponseFiles(Protocol):
    """Files that clients uploaded."""

    async def read(
        self, file_id: str, caller: Principal, *, limit: int, param: str | None = None
    ) -> tuple[str, bytes]:
        """Name and content. Raises `NotFound`, and `TooLarge` for more than ``limit`` bytes, of ``param``."""


@dataclass(frozen=True, slots=True)
class ResponseServices:
    """What hosted tools need of the daemon, other than the context of their run.

    ``filters`` reads filters of attributes, ``servers`` returns the connected MCP servers with their addresses.
    """

    registry: Registry
    uploads: ResponseFiles
    filters: Callable[[Any, str], Filter]
    servers: Callable[[], Mapping[str, str]]
    tool_search: ToolSearch
    skills: SkillTexts
    containers: ContainerPlaces


Place: TypeAlias = Callable[[], Awaitable[str]]
"""The id of a container, which is made if it has to be."""

Use: TypeAlias = Callable[[CalledTool, Mapping[str, Any]], Awaitable[None]]
"""Do what is called: the call, and its arguments as far as they are an object."""


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """One function that the model may call and that is done here. ``repeats``: doing it twice does no harm.

    ``kind``, ``label`` and ``name`` are what ``tool_choice`` may mean it by; ``tool`` is a server's tool in
    the registry.
    """

    function: str
    description: str
    schema: Mapping[str, Any]
    use: Use
    kind: str
    label: str = ""
    name: str = ""
    tool: str = ""
    repeats: bool = True

    def to_json(self) -> dict[str, Any]:
        """As the ``tools`` of a chat have it."""
        about = {"name": self.function, "description": self.description, "parameters": dict(self.schema)}
        return {"type": "function", "function": about}


@dataclass(slots=True)
class ToolContext:
    """``before`` are the items that the response continues with; ``emit`` reports to the client what happens.

    ``offers`` are the functions that the model may call, by name, ``tools`` those of servers by label and name.
    ``passages`` are those that were found, numbered; ``made`` the files that code made, each with its container.
    ``searched`` are the passages by query; ``repeated``: the model has asked for the same again, and is to answer now.
    ``waits``: whether the client has to do or agree to something first.
    ``container``: where code runs whose container is not named, once it has; ``shell``: where commands do, if that is
    here.
    ``functions`` are those of the client; ``hidden`` the tools, by what the model calls them, that it has not
    found yet.
    """

    ask: ResponseRequest
    machine: EventBuilder
    context: Context
    around: ResponseServices
    emit: Emit
    before: Sequence[Item] = ()
    offers: dict[str, OfferedTool] = field(default_factory=dict)
    tools: dict[tuple[str, str], OfferedTool] = field(default_factory=dict)
    passages: list[Passage] = field(default_factory=list)
    made: list[tuple[Artifact, str]] = field(default_factory=list)
    searched: dict[str, Sequence[Passage]] = field(default_factory=dict)
    functions: list[FunctionTool] = field(default_factory=list)
    hidden: dict[str, SearchedTool] = field(default_factory=dict)
    waits: bool = False
    container: str = ""
    shell: Place | None = None
    repeated: bool = False

    def call_id(self, call: CalledTool) -> str:
        """The id of a call, another one if it has none or one that the conversation knows."""
        known_ids = {item.get("call_id") for item in (*self.before, *self.machine.output)}
        return call.id if call.id and call.id not in known_ids else new_id("call_")
