"""Parses JSON into `portico_server.features.agents.spec`, with the path of every error, and defines the JSON schema.

The schema covers only the form; `AgentApps.exists` checks the names. A test compares the parser and the schema field
by field. The parser treats null as an omitted field, and also an empty text where a word is expected; the schema
allows neither.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, get_args

from portico.model_options import CHAT_OPTIONS
from portico_server.core.errors import InvalidRequest
from portico_server.core.json_values import JsonObject
from portico_server.core.names import TOOL_NAME, callable_name
from portico_server.core.tool_search import FIND_TOOLS, MAX_LISTED_TOOLS
from portico_server.features.agents.spec import (
    HOOK_NEEDS,
    VERSION,
    AgentHook,
    AgentLimits,
    AgentSpec,
    Calling,
    ClientFunction,
    HookKind,
    LongTermSpec,
    MarkedOutput,
    MemoryKind,
    MemoryPolicy,
    Moment,
    Output,
    Strategy,
    SubAgent,
    ToolSearching,
    ToolUse,
    Validation,
    WhenBusy,
)
from portico_server.features.agents.tools import MAX_SKILLS, READ_SKILL, agent_name, search_name
from portico_server.features.flows.expression import template
from portico_server.features.flows.model_options import model_options
from portico_server.features.flows.ops import format_of
from portico_server.features.flows.schema import (
    FORMAT,
    OBJECT,
    TEXT,
    TEXTS,
    closed_object,
    integer,
    number,
    one_of,
)

MAX_AGENT_DEPTH = 8
"""Maximum nesting depth of agents."""


def agent(value: Any, at: str = "agent", depth: int = 0) -> AgentSpec:
    """Parse a specification. Raise `InvalidRequest` with the location of the first error."""
    if depth > MAX_AGENT_DEPTH:
        raise InvalidRequest(
            f"{at} is nested more than {MAX_AGENT_DEPTH} agents deep.", code="too_deep", param=at
        )
    fields = JsonObject(value, at)
    version = fields.raw("portico_agent")
    if depth == 0 or version is not None:
        _version(version, fields.path("portico_agent"))
    strategy = _one_of(fields, "strategy", get_args(Strategy), "tools")
    agent_spec = AgentSpec(
        name=fields.text("name") or "agent",
        source=value,
        title=fields.text("title"),
        description=fields.text("description"),
        model=fields.text("model") or "default",
        instructions=fields.text("instructions"),
        variables=fields.mapping("variables") or {},
        tools=tuple(_tool(item, f"{at}.tools[{n}]") for n, item in enumerate(fields.items("tools") or ())),
        tool_search=_tool_search(fields, strategy),
        stores=fields.texts("stores"),
        skills=fields.texts("skills"),
        agents=tuple(
            _sub(item, f"{at}.agents[{n}]", depth) for n, item in enumerate(fields.items("agents") or ())
        ),
        strategy=strategy,
        memory=_memory(fields),
        output=_outputs(fields),
        aggregate=_aggregate(fields),
        few_shot=_few_shot(fields),
        hooks=tuple(_hook(item, f"{at}.hooks[{n}]") for n, item in enumerate(fields.items("hooks") or ())),
        limits=_limits(fields, strategy),
        final=fields.text("final"),
        options=model_options(fields.mapping("options") or {}, fields.path("options")),
        busy=_one_of(fields, "busy", get_args(WhenBusy), "wait"),
        attempts=fields.integer("attempts", 2, minimum=1, limit=10),
    )
    fields.check_unread()
    _distinct(agent_spec, at)
    return agent_spec


def _version(version: Any, at: str) -> None:
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise InvalidRequest(
            f'{at}: add "portico_agent": {VERSION}, the version of the specification.',
            code="invalid_spec",
            param=at,
        )
    if version > VERSION:
        raise InvalidRequest(
            f"The agent uses version {version} of the specification; this daemon supports versions up to "
            f"{VERSION}. Update the daemon, or deploy with an older SDK.",
            code="unsupported_version",
            param=at,
        )


def _one_of(fields: JsonObject, key: str, known_values: tuple[str, ...], default: str) -> Any:
    value = fields.text(key) or default
    if value not in known_values:
        at = fields.path(key)
        raise InvalidRequest(
            f"{at} is '{value}'; it must be one of {', '.join(known_values)}.", code="invalid_spec", param=at
        )
    return value


def _tool_search(fields: JsonObject, strategy: Strategy) -> ToolSearching:
    value, at = fields.raw("tool_search"), fields.path("tool_search")
    if value is None or value == "auto":
        return "auto"
    if not isinstance(value, bool):
        raise InvalidRequest(f'{at} must be true, false or "auto".', code="invalid_spec", param=at)
    if value and strategy == "rewoo":
        raise InvalidRequest(
            f"{at}: the strategy 'rewoo' plans all calls before the first call and needs all tools for that. "
            "Omit the field, or use another strategy.",
            code="invalid_spec",
            param=at,
        )
    return "on" if value else "off"


def _tool(item: Any, at: str) -> ToolUse:
    if isinstance(item, str):
        return ToolUse(item, callable_name(item))
    inner = JsonObject(item, at)
    if isinstance(item, Mapping) and "function" in item:
        return _function(inner)
    tool = inner.required_text("tool", "the name of a tool, or 'function' with the name of a client function")
    tool_use = ToolUse(tool, inner.text("as") or callable_name(tool), description=inner.text("description"))
    inner.check_unread()
    return tool_use


def _function(fields: JsonObject) -> ToolUse:
    name = fields.required_text("function", "the name of a function")
    client_function = ClientFunction(
        fields.text("description"),
        fields.mapping("parameters") or {"type": "object", "properties": {}},
        fields.number("seconds", 60.0, minimum=0.01, maximum=604_800) or 60.0,
    )
    tool_use = ToolUse(name, fields.text("as") or name, client_function)
    fields.check_unread()
    return tool_use


def _sub(item: Any, at: str, depth: int) -> SubAgent:
    if isinstance(item, str):
        return SubAgent(item)
    inner = JsonObject(item, at)
    value = inner.raw("agent")
    calling = _one_of(inner, "as", get_args(Calling), "tool")
    inner.check_unread()
    if isinstance(value, str) and value:
        return SubAgent(value, handoff=calling == "handoff")
    spec = agent(value, f"{at}.agent", depth + 1)
    return SubAgent(spec.name, spec, calling == "handoff")


def _memory(fields: JsonObject) -> MemoryPolicy:
    value = fields.raw("memory")
    if value is None:
        return MemoryPolicy()
    inner = JsonObject({"policy": value} if isinstance(value, str) else value, fields.path("memory"))
    memory_policy = MemoryPolicy(
        policy=_one_of(inner, "policy", get_args(MemoryKind), "all"),
        messages=inner.integer("messages", 40, minimum=1, limit=100_000),
        tokens=inner.integer("tokens", 4_000, minimum=16, limit=10_000_000),
        long_term=_long_term(inner),
    )
    inner.check_unread()
    return memory_policy


def _long_term(memory: JsonObject) -> LongTermSpec | None:
    value = memory.raw("long_term")
    if value is None:
        return None
    inner = JsonObject(value, memory.path("long_term"))
    term_spec = LongTermSpec(
        inner.required_text("store", "the name of a store"), inner.integer("facts", 5, minimum=1, limit=50)
    )
    inner.check_unread()
    return term_spec


def _outputs(fields: JsonObject) -> tuple[Output, ...]:
    value = fields.raw("output")
    if value is None:
        return ()
    at = fields.path("output")
    items = value if isinstance(value, list) else [value]
    return tuple(_output(item, at if item is value else f"{at}[{n}]") for n, item in enumerate(items))


def _output(item: Any, at: str) -> Output:
    if not isinstance(item, Mapping) or item.get("type") != "tool":
        return format_of(item, at)
    inner = JsonObject(item, at)
    inner.text("type")
    marked_output = MarkedOutput(
        tool_type=inner.required_text("tool_type", "the purpose of the action, such as 'code interpreter'"),
        begin=inner.required_text("begin", "the marker before the action"),
        end=inner.required_text("end", "the marker after the action"),
        validate=_one_of(inner, "validate", get_args(Validation), ""),
        code=inner.text("code"),
    )
    inner.check_unread()
    return marked_output


def _aggregate(fields: JsonObject) -> str:
    value = fields.raw("aggregate")
    if value is None or value in ("default", "tool_text"):
        return value or "default"
    at = fields.path("aggregate")
    inner = JsonObject(value, at)
    text = inner.required_text("template", "text with {content} and {sender}, for each message to the agent")
    inner.check_unread()
    template(text, {"content": "", "sender": ""}, f"{at}.template")
    return text


def _few_shot(fields: JsonObject) -> tuple[Mapping[str, Any], ...]:
    items = fields.items("few_shot") or []
    for position, item in enumerate(items):
        at = f"{fields.path('few_shot')}[{position}]"
        if not isinstance(item, dict) or not isinstance(item.get("role"), str) or "content" not in item:
            raise InvalidRequest(
                f"{at} must be a message with 'role' and 'content'.", code="invalid_spec", param=at
            )
    return tuple(items)


def _hook(item: Any, at: str) -> AgentHook:
    inner = JsonObject(item, at)
    agent_hook = AgentHook(
        on=_one_of(inner, "on", get_args(Moment), ""),
        do=_one_of(inner, "do", get_args(HookKind), ""),
        senders=inner.texts("senders"),
        text=inner.text("text"),
        pattern=inner.text("pattern"),
        replacement=inner.text("replacement"),
        most=inner.integer("most", 0),
        source=inner.text("source"),
    )
    inner.check_unread()
    needed_field = HOOK_NEEDS[agent_hook.do]
    if not getattr(agent_hook, needed_field):
        raise InvalidRequest(
            f"{at}: '{agent_hook.do}' needs '{needed_field}'.",
            code="invalid_spec",
            param=f"{at}.{needed_field}",
        )
    return agent_hook


def _limits(fields: JsonObject, strategy: Strategy) -> AgentLimits:
    value = fields.raw("limits")
    inner = JsonObject({} if value is None else value, fields.path("limits"))
    usual = 40 if strategy == "plan_and_solve" else 12
    agent_limits = AgentLimits(
        turns=inner.integer("turns", usual, minimum=1, limit=10_000),
        tokens=inner.integer("tokens", 0) or None,
        seconds=inner.number("seconds", None, minimum=0.01),
        tool_calls=inner.integer("tool_calls", 40, limit=100_000),
    )
    inner.check_unread()
    return agent_limits


def _distinct(agent_spec: AgentSpec, at: str) -> None:
    """Check that everything the model may call has a name that is unique and that a model can call."""
    seen_names: set[str] = set()
    for name in [use.name for use in agent_spec.tools] + [
        sub.name for sub in agent_spec.agents if not sub.handoff
    ]:
        if not re.fullmatch(TOOL_NAME, name):
            raise InvalidRequest(
                f"{at}: a model cannot call '{name}': names consist of letters, digits, '_' and '-'. Rename "
                "it with 'as'.",
                code="invalid_name",
                param=at,
            )
    names = [use.name for use in agent_spec.tools]
    names += [*map(search_name, agent_spec.stores), *map(agent_name, agent_spec.agents)]
    names += [FIND_TOOLS] if agent_spec.finds_tools else []
    if agent_spec.skills:
        names.append(READ_SKILL)
        if len(agent_spec.skills) > MAX_SKILLS:
            raise InvalidRequest(
                f"{at}.skills names {len(agent_spec.skills)} skills; an agent may have at most {MAX_SKILLS}.",
                code="invalid_spec",
                param=f"{at}.skills",
            )
    for name in names:
        if name in seen_names:
            raise InvalidRequest(
                f"{at}: two of the agent's tools are named '{name}'.", code="duplicate_name", param=at
            )
        seen_names.add(name)


_NEEDED: Final = {"type": "string", "minLength": 1}
_CALLABLE: Final = {"type": "string", "pattern": f"^{TOOL_NAME}$"}


def _describe_field(description: str, field: Mapping[str, Any]) -> dict[str, Any]:
    return {**field, "description": description}


def _describe_item(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": dict(item)}


_NAMED: Final = {"if": {"not": {"required": ["as"]}}}
"""Condition for a function without ``as``: it keeps its name, so a model must be able to call that name."""

_AS: Final = _describe_field("The name that the model sees", _CALLABLE)

_TOOL: Final = {
    "anyOf": [
        _NEEDED,
        closed_object(
            {
                "tool": _describe_field("A tool of the daemon", _NEEDED),
                "as": _AS,
                "description": _describe_field(
                    "The description that the model sees instead of the tool's", TEXT
                ),
            },
            "tool",
        ),
        {
            **closed_object(
                {
                    "function": _describe_field("A client function", _NEEDED),
                    "as": _AS,
                    "description": _describe_field("The description that the model sees", TEXT),
                    "parameters": _describe_field("The JSON schema of its arguments", OBJECT),
                    "seconds": _describe_field("Maximum seconds for a call: 60", number(0.01, 604_800)),
                },
                "function",
            ),
            **_NAMED,
            "then": {"properties": {"function": _CALLABLE}},
        },
    ]
}

_SUB: Final = {
    "anyOf": [
        _CALLABLE,
        {
            **closed_object(
                {
                    "agent": _describe_field(
                        "The name of a deployed agent, or an agent",
                        {"anyOf": [_NEEDED, {"$ref": "#/$defs/agent"}]},
                    ),
                    "as": _describe_field(
                        "Whether it is called like a tool or takes over the conversation: tool",
                        one_of(*get_args(Calling)),
                    ),
                },
                "agent",
            ),
            "if": {"not": {"properties": {"as": {"const": "handoff"}}, "required": ["as"]}},
            "then": {
                "properties": {
                    "agent": {
                        "pattern": _CALLABLE["pattern"],
                        "properties": {"name": {"pattern": _CALLABLE["pattern"]}},
                    }
                }
            },
        },
    ]
}

_LONG_TERM: Final = closed_object(
    {
        "store": _describe_field("The store for facts from conversations", _NEEDED),
        "facts": _describe_field("How many facts are recalled per turn: 5", integer(1, 50)),
    },
    "store",
)

_MEMORY: Final = {
    "anyOf": [
        one_of(*get_args(MemoryKind)),
        closed_object(
            {
                "policy": _describe_field(
                    "Which part of a session the model sees: all", one_of(*get_args(MemoryKind))
                ),
                "messages": _describe_field(
                    "Number of messages before this turn that a window shows: 40", integer(1, 100_000)
                ),
                "tokens": _describe_field(
                    "Number of tokens for a budget or a summary: 4000", integer(16, 10_000_000)
                ),
                "long_term": _describe_field("Facts of earlier conversations", _LONG_TERM),
            }
        ),
    ]
}

_MARKED: Final = closed_object(
    {
        "type": {"const": "tool"},
        "tool_type": _describe_field("The purpose of the action, such as 'code interpreter'", _NEEDED),
        "begin": _describe_field("The marker before the action", _NEEDED),
        "end": _describe_field("The marker after the action", _NEEDED),
        "validate": _describe_field("How the action is checked", one_of(*get_args(Validation))),
        "code": _describe_field("The source of a function that receives the action", TEXT),
    },
    "type",
    "tool_type",
    "begin",
    "end",
)

_HOOK: Final = {
    **closed_object(
        {
            "on": _describe_field("The moment", one_of(*get_args(Moment))),
            "do": _describe_field("The transformation of the message", one_of(*get_args(HookKind))),
            "senders": _describe_field("Only messages from these senders", TEXTS),
            "text": _describe_field(
                "The text that 'prefix' puts before a message, or the refusal of 'guard'", TEXT
            ),
            "pattern": _describe_field("The pattern that 'redact' and 'guard' search for", TEXT),
            "replacement": _describe_field("The replacement that 'redact' inserts", TEXT),
            "most": _describe_field("How many characters 'limit' keeps", integer()),
            "source": _describe_field(
                "The Python function of 'code', or the name of a client function", TEXT
            ),
        },
        "on",
        "do",
    ),
    "oneOf": [
        {
            "properties": {"do": {"const": do}, need: {"minimum": 1} if need == "most" else {"minLength": 1}},
            "required": [need],
        }
        for do, need in HOOK_NEEDS.items()
    ],
}

_MESSAGE: Final = {
    "type": "object",
    "properties": {"role": TEXT, "content": {}},
    "required": ["role", "content"],
}

FIELDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "portico_agent": _describe_field("The version of the specification", {"const": VERSION}),
    "name": _describe_field("The name; a deployed agent has the name of its app", TEXT),
    "title": _describe_field("The name that users see instead of 'name'", TEXT),
    "description": _describe_field("What the agent can do, for users and for agents that call it", TEXT),
    "model": _describe_field("A chat model of the daemon: default", TEXT),
    "instructions": _describe_field("The system message. With variables, {name} is replaced", TEXT),
    "variables": _describe_field("Values of the variables in the instructions", OBJECT),
    "tools": _describe_field(
        "Tools under their own or another name, and functions of a client", _describe_item(_TOOL)
    ),
    "tool_search": _describe_field(
        f"Whether the model searches for its tools: auto, if there are more than {MAX_LISTED_TOOLS}",
        {"enum": ["auto", True, False]},
    ),
    "stores": _describe_field("Stores; each becomes a search tool", TEXTS),
    "skills": _describe_field(
        "Skills by name: the model sees their descriptions, and reads them with read_skill", TEXTS
    ),
    "agents": _describe_field("Other agents, by name or as specifications", _describe_item(_SUB)),
    "strategy": _describe_field("The strategy that produces the answer: tools", one_of(*get_args(Strategy))),
    "memory": _describe_field("Which part of the session the model sees: all", _MEMORY),
    "output": _describe_field(
        "The format of an answer, or a list of formats, of which the first matching format is used",
        {"anyOf": [FORMAT, _MARKED, _describe_item({"anyOf": [FORMAT, _MARKED]})]},
    ),
    "attempts": _describe_field("Maximum attempts to get an answer in the output format: 2", integer(1, 10)),
    "aggregate": _describe_field(
        "How the memory becomes messages: default",
        {
            "anyOf": [
                one_of("default", "tool_text"),
                closed_object(
                    {"template": _describe_field("Text with {content} and {sender}", _NEEDED)}, "template"
                ),
            ]
        },
    ),
    "few_shot": _describe_field("Messages between the instructions and the memory", _describe_item(_MESSAGE)),
    "hooks": _describe_field("Transformations of messages", _describe_item(_HOOK)),
    "limits": _describe_field(
        "Limits of one turn",
        closed_object(
            {
                "turns": _describe_field(
                    "Maximum number of model calls: 12, with plan_and_solve 40", integer(1, 10_000)
                ),
                "tokens": _describe_field("Total tokens; 0: no limit", integer()),
                "seconds": _describe_field("Total seconds", number(0.01)),
                "tool_calls": _describe_field("Tool calls: 40", integer(0, 100_000)),
            }
        ),
    ),
    "final": _describe_field(
        "A pattern; extra_info.final of an answer says whether the answer contains it", TEXT
    ),
    "options": _describe_field(
        "OpenAI parameters for the model",
        closed_object(
            {option: OBJECT if option == "extra_body" else {} for option in sorted(CHAT_OPTIONS)},
        ),
    ),
    "busy": _describe_field(
        "What happens to a call of a session that is in use: wait", one_of(*get_args(WhenBusy))
    ),
}
"""The fields of an agent, in the order in which they are documented."""


def schema() -> dict[str, Any]:
    """Return the whole JSON schema, draft 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A Portico agent",
        "allOf": [{"$ref": "#/$defs/agent"}],
        "required": ["portico_agent"],
        "$defs": {"agent": closed_object(FIELDS)},
    }
