"""State shared by the hosted tools of one response: the event builder, the run, search results and created files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol, TypeAlias

from portico.schemas.artifacts import Artifact
from portico.wire import Passage
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.ids import new_id
from portico_server.core.origins import Origins
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.request import CalledTool, Filter, ToolResult
from portico_server.core.skills import ContainerPlaces, SkillTexts
from portico_server.core.tool_search import SearchedTool, ToolSearch
from portico_server.features.answers.store_apps import StoreApps
from portico_server.features.responses.event_builder import EventBuilder
from portico_server.features.responses.items import Item
from portico_server.features.responses.open_items import Event
from portico_server.features.responses.request import FunctionTool, ResponseRequest

Emit: TypeAlias = Callable[[Sequence[Event]], Awaitable[None]]
"""Sends events to the client; waits while the client has too many unread events."""


class ResponseFiles(Protocol):
    """Files that clients uploaded."""

    async def read(
        self, file_id: str, caller: Principal, *, limit: int, param: str | None = None
    ) -> tuple[str, bytes]:
        """Return the name and content of a file. Raises `NotFound`, and `TooLarge`, naming ``param``, for more than
        ``limit`` bytes.
        """


@dataclass(frozen=True, slots=True)
class ServerTool:
    """A tool of an MCP server. ``name`` is its name on that server, ``full_name`` its name on this daemon.

    ``call`` receives the context, the arguments, and a key that makes the call idempotent. ``refuses_data``: the
    operator refuses calls that may depend on foreign data. ``is_computed``: results contain no foreign data;
    ``is_composed``: see `Card`.
    """

    name: str
    full_name: str
    description: str
    schema: Mapping[str, Any]
    read_only: bool
    call: Callable[[Context, Mapping[str, Any], str], Awaitable[ToolResult]]
    refuses_data: bool = False
    is_computed: bool = False
    is_composed: bool = True


@dataclass(frozen=True, slots=True)
class ResponseServices:
    """Services of the daemon that hosted tools need, in addition to the context of their run.

    ``filters`` parses attribute filters, and ``servers`` returns the connected MCP servers with their addresses.
    ``endpoint_tools`` returns the tools that a caller may call at an MCP endpoint of this daemon, such as ``/mcp``.
    ``store_apps`` answers questions about stores in place of models that cannot search.
    """

    registry: Registry
    uploads: ResponseFiles
    filters: Callable[[Any, str], Filter]
    servers: Callable[[], Mapping[str, str]]
    endpoint_tools: Callable[[str, Principal], Awaitable[Sequence[ServerTool]]]
    tool_search: ToolSearch
    skills: SkillTexts
    containers: ContainerPlaces
    store_apps: StoreApps


Place: TypeAlias = Callable[[], Awaitable[str]]
"""Returns the id of a container, and creates the container if necessary."""

Use: TypeAlias = Callable[[CalledTool, Mapping[str, Any]], Awaitable[None]]
"""Executes a call; receives the call, and the call's arguments if they are an object."""


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A function that the model may call and that the daemon executes. With ``repeats``, executing a call twice does
    no harm.

    ``tool_choice`` may name the function by ``kind``, ``label`` and ``name``; ``tool`` is the tool of an MCP server.
    """

    function: str
    description: str
    schema: Mapping[str, Any]
    use: Use
    kind: str
    label: str = ""
    name: str = ""
    tool: ServerTool | None = None
    repeats: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the function in the form of a chat's ``tools``."""
        about = {"name": self.function, "description": self.description, "parameters": dict(self.schema)}
        return {"type": "function", "function": about}


@dataclass(slots=True)
class ToolContext:
    """The shared state of a response's hosted tools.

    ``before`` are the items that the response continues from; ``emit`` sends events to the client.

    ``offers`` maps function names to the functions that the model may call; ``tools`` maps server labels and tool
    names to the functions of MCP servers. ``passages`` are the numbered search results; ``made`` are the files that
    code created, each with its container. ``searched`` maps queries to passages; ``repeated`` is true if the model has
    repeated a query and must answer now. ``waits`` is true if the client must run or approve a call before the model
    continues.

    ``container`` is the container for code that does not name one, once it exists; ``shell`` is the container of
    hosted shell commands, if any. ``functions`` are the client's functions; ``hidden`` contains the deferred tools
    that the model has not found yet, by function name. ``origins`` are those of the foreign data that the model had
    read when it made the current calls.
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
    origins: Origins = ()
    waits: bool = False
    container: str = ""
    shell: Place | None = None
    repeated: bool = False

    def call_id(self, call: CalledTool) -> str:
        """Return the id of the call, or a new id if the call has none or the conversation already contains the id."""
        known_ids = {item.get("call_id") for item in (*self.before, *self.machine.output)}
        return call.id if call.id and call.id not in known_ids else new_id("call_")
