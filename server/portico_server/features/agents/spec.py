"""The specification of an agent as typed values. Field names are the same as in the JSON (docs/agents.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any, Final, Literal, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.tool_search import MAX_LISTED_TOOLS
from portico_server.features.flows.spec import OutputFormat

VERSION = 1
"""The ``portico_agent`` version that this module reads."""

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
"""The field that each kind of hook requires."""


@dataclass(frozen=True, slots=True)
class ClientFunction:
    """A function that a client executes; ``seconds`` is the time limit of a call."""

    description: str
    schema: Mapping[str, Any]
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A tool of the daemon, or a client ``function``, and the name under which the model sees it. ``description``
    replaces the description of a tool of the daemon.
    """

    tool: str
    name: str
    function: ClientFunction | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class SubAgent:
    """Another agent, which is called like a tool or takes over the conversation. It is a deployed agent with a
    ``name``, or an inline agent with a ``spec``.

    ``near``: the agent and its functions belong to the calling agent.
    """

    name: str
    spec: AgentSpec | None = None
    handoff: bool = False
    near: bool = True


@dataclass(frozen=True, slots=True)
class LongTermSpec:
    """A memory for facts from conversations, stored in ``store``; ``facts`` is the number of facts recalled per
    turn.
    """

    store: str
    facts: int = 5


@dataclass(frozen=True, slots=True)
class MemoryPolicy:
    """The part of a session that the model sees.

    ``all``: everything; ``window``: the last ``messages`` before this turn; ``budget``: as many messages as fit into
    ``tokens``; ``summary``: the same, with a running summary of older messages, written by the model; ``none``:
    nothing before this turn.
    """

    policy: MemoryKind = "all"
    messages: int = 40
    tokens: int = 4_000
    long_term: LongTermSpec | None = None


@dataclass(frozen=True, slots=True)
class MarkedOutput:
    """Text with two markers, as in Lagent's ToolParser: the thought precedes the first marker, the action is between
    the markers.

    ``validate``: ``json`` parses the action as JSON; ``code`` is the source of a function that receives the action.
    """

    tool_type: str
    begin: str
    end: str
    validate: Validation = ""
    code: str = ""


Output: TypeAlias = OutputFormat | MarkedOutput


@dataclass(frozen=True, slots=True)
class AgentHook:
    """A transformation of a message at a moment of the turn: see `portico_server.features.agents.hooks`."""

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
    """Limits of one turn: model calls, total tokens, seconds, tool calls."""

    turns: int = 12
    tokens: int | None = None
    seconds: float | None = None
    tool_calls: int = 40


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """A whole agent. ``aggregate`` is ``default``, ``tool_text``, or a template for user messages."""

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
    """Skills by name or id. The model sees their descriptions, and reads their contents with one tool."""
    agents: tuple[SubAgent, ...] = ()
    tool_search: ToolSearching = "auto"
    """Whether the model searches for its tools instead of seeing all of them: ``auto`` searches if there are many."""
    strategy: Strategy = "tools"
    memory: MemoryPolicy = MemoryPolicy()
    output: tuple[Output, ...] = ()
    aggregate: str = "default"
    few_shot: tuple[Mapping[str, Any], ...] = ()
    hooks: tuple[AgentHook, ...] = ()
    limits: AgentLimits = AgentLimits()
    final: str = ""
    """A pattern; ``extra_info["final"]`` of an answer is true if the answer contains it. Teams stop at such an
    answer.
    """
    options: Mapping[str, Any] = field(default_factory=dict)
    busy: WhenBusy = "wait"
    attempts: int = 2
    """Maximum number of attempts to get an answer in the output format."""

    @property
    def finds_tools(self) -> bool:
        """Return whether the model searches for its tools. A strategy that plans all calls in advance needs to see all
        tools.
        """
        if self.tool_search == "auto":
            return len(self.tools) > MAX_LISTED_TOOLS and self.strategy != "rewoo"
        return self.tool_search == "on"

    def names(self) -> Iterator[str]:
        """Yield the registry keys of everything that the agent calls."""
        yield self.model
        yield from (f"tool/{use.tool}" for use in self.tools if use.function is None)
        yield from (f"store/{store}" for store in self.stores)
        if self.memory.long_term is not None:
            yield f"memory/{self.memory.long_term.store}"
        for sub in self.agents:
            if sub.spec is None:
                yield sub.name
            else:
                yield from sub.spec.names()
