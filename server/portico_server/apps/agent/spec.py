"""The specification of an agent as typed values; field names are those of the JSON (docs/agents.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any, Final, Literal, TypeAlias

from portico_server.apps.flow.spec import OutputFormat
from portico_server.core.dataclass import dataclass
from portico_server.core.tool_search import MAX_LISTED_TOOLS

VERSION = 1
"""The value of ``portico_agent`` that this code reads."""

Strategy: TypeAlias = Literal["tools", "text_tools", "react", "plan_and_solve", "rewoo"]
Moment: TypeAlias = Literal["before_agent", "after_agent", "before_action", "after_action"]
HookKind: TypeAlias = Literal["prefix", "redact", "guard", "limit", "code", "client"]
MemoryKind: TypeAlias = Literal["all", "window", "budget", "summary", "none"]
Calling: TypeAlias = Literal["tool", "handoff"]
WhenBusy: TypeAlias = Literal["wait", "refuse"]
Validation: TypeAlias = Literal["", "json", "code"]
ToolSearching: TypeAlias = Literal["auto", "on", "off"]

HOOK_NEEDS: Final[Mapping[HookKind, str]] = {
    "prefix": "text",
    "redact": "pattern",
    "guard": "pattern",
    "limit": "most",
    "code": "source",
    "client": "source",
}
"""The field without which a hook does nothing."""

TOOL_NAME: Final = "[A-Za-z0-9_-]{1,64}"
"""A pattern: what a model can call something."""


@dataclass(frozen=True, slots=True)
class ClientFunction:
    """What is known of a function that a client executes; ``seconds``: how long a call may take."""

    description: str
    schema: Mapping[str, Any]
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A tool of the daemon, or a ``function`` of a client, under the name that the model sees."""

    tool: str
    name: str
    function: ClientFunction | None = None


@dataclass(frozen=True, slots=True)
class SubAgent:
    """Another agent: a deployed one by ``name``, or one of its own (``spec``); asked like a tool, or handed over to.

    ``near``: it belongs to the agent that asks, and so do its functions.
    """

    name: str
    spec: AgentSpec | None = None
    handoff: bool = False
    near: bool = True


@dataclass(frozen=True, slots=True)
class LongTermSpec:
    """Facts of earlier conversations in ``store``; ``facts``: how many are recalled in a turn."""

    store: str
    facts: int = 5


@dataclass(frozen=True, slots=True)
class MemoryPolicy:
    """What of a session the model is shown.

    ``all``; the last ``messages`` before this turn (``window``); as many as fit into ``tokens`` (``budget``), the rest
    as a running ``summary`` made by the model; nothing before this turn (``none``).
    """

    policy: MemoryKind = "all"
    messages: int = 40
    tokens: int = 4_000
    long_term: LongTermSpec | None = None


@dataclass(frozen=True, slots=True)
class MarkedOutput:
    """Text between two markers, Lagent's ToolParser: what stands before is the thought, between them the action.

    ``validate``: ``json`` reads the action as JSON; ``code`` is the source of a function that is given the action.
    """

    tool_type: str
    begin: str
    end: str
    validate: Validation = ""
    code: str = ""


Output: TypeAlias = OutputFormat | MarkedOutput


@dataclass(frozen=True, slots=True)
class AgentHook:
    """Something done to a message at a moment: see `portico_server.apps.agent.hooks`."""

    on: Moment
    do: HookKind
    senders: tuple[str, ...] = ()
    text: str = ""
    pattern: str = ""
    replacement: str = ""
    most: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True)
class AgentLimits:
    """Ends of one turn: askings of the model, tokens in all, seconds, calls of tools."""

    turns: int = 12
    tokens: int | None = None
    seconds: float | None = None
    tool_calls: int = 40


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """A whole agent. ``aggregate`` is ``default``, ``tool_text``, or a template for a user's message."""

    name: str
    source: Mapping[str, Any] = field(repr=False)
    title: str = ""
    description: str = ""
    model: str = "default"
    instructions: str = ""
    variables: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[ToolUse, ...] = ()
    stores: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    """By name or id: the model is told of them, and reads them with one tool."""
    agents: tuple[SubAgent, ...] = ()
    tool_search: ToolSearching = "auto"
    """Whether the model searches for its tools instead of being shown all: ``auto`` if there are many."""
    strategy: Strategy = "tools"
    memory: MemoryPolicy = MemoryPolicy()
    output: tuple[Output, ...] = ()
    aggregate: str = "default"
    few_shot: tuple[Mapping[str, Any], ...] = ()
    hooks: tuple[AgentHook, ...] = ()
    limits: AgentLimits = AgentLimits()
    final: str = ""
    """A pattern; ``extra_info["final"]`` of an answer says whether it stands in it. Teams stop at it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    busy: WhenBusy = "wait"
    attempts: int = 2
    """How often an answer that has not the output format is asked for in all."""

    @property
    def finds_tools(self) -> bool:
        """Whether the model searches for its tools. A plan of all calls needs all of them."""
        if self.tool_search == "auto":
            return len(self.tools) > MAX_LISTED_TOOLS and self.strategy != "rewoo"
        return self.tool_search == "on"

    def names(self) -> Iterator[str]:
        """What it calls by name, as keys of the registry."""
        yield self.model
        yield from (f"tool/{use.tool}" for use in self.tools if use.function is None)
        yield from (f"store/{store}" for store in self.stores)
        if self.memory.long_term is not None:
            yield f"store/{self.memory.long_term.store}"
        for sub in self.agents:
            if sub.spec is None:
                yield sub.name
            else:
                yield from sub.spec.names()
