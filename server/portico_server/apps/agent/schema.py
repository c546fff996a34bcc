"""The JSON schema of an agent's specification: the form alone. What names mean is checked by `AgentApps.exists`.

`portico_server.apps.agent.read` takes what this describes; a test compares them, field by field. To the reader a field
that is null, or an empty text in the place of a word, is one that is left out; here neither is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from portico.wire import CHAT_OPTIONS
from portico_server.apps.agent.spec import (
    HOOK_NEEDS,
    TOOL_NAME,
    VERSION,
    Calling,
    HookKind,
    MemoryKind,
    Moment,
    Strategy,
    Validation,
    WhenBusy,
)
from portico_server.apps.flow.schema import FORMAT, OBJECT, TEXT, TEXTS, closed, number, one_of, whole
from portico_server.core.tool_search import MAX_LISTED_TOOLS

_NEEDED: Final = {"type": "string", "minLength": 1}
_CALLABLE: Final = {"type": "string", "pattern": f"^{TOOL_NAME}$"}


def _said(description: str, field: Mapping[str, Any]) -> dict[str, Any]:
    return {**field, "description": description}


def _listed(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": dict(item)}


_NAMED: Final = {"if": {"not": {"required": ["as"]}}}
"""What has no name of its own is called by the one that it has."""

_AS: Final = _said("The name that the model sees", _CALLABLE)

_TOOL: Final = {
    "anyOf": [
        _CALLABLE,
        {
            **closed({"tool": _said("A tool of the daemon", _NEEDED), "as": _AS}, "tool"),
            **_NAMED,
            "then": {"properties": {"tool": _CALLABLE}},
        },
        {
            **closed(
                {
                    "function": _said("A function of a client", _NEEDED),
                    "as": _AS,
                    "description": _said("What the model reads of it", TEXT),
                    "parameters": _said("The JSON schema of its arguments", OBJECT),
                    "seconds": _said("How long a call may take: 60", number(0.01, 604_800)),
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
            **closed(
                {
                    "agent": _said(
                        "The name of what is deployed, or an agent",
                        {"anyOf": [_NEEDED, {"$ref": "#/$defs/agent"}]},
                    ),
                    "as": _said(
                        "Asked like a tool, or given the conversation: tool", one_of(*get_args(Calling))
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

_LONG_TERM: Final = closed(
    {
        "store": _said("Where facts of conversations are kept", _NEEDED),
        "facts": _said("How many are recalled in a turn: 5", whole(1, 50)),
    },
    "store",
)

_MEMORY: Final = {
    "anyOf": [
        one_of(*get_args(MemoryKind)),
        closed(
            {
                "policy": _said("What of a session the model is shown: all", one_of(*get_args(MemoryKind))),
                "messages": _said("How many before this turn, of a window: 40", whole(1, 100_000)),
                "tokens": _said("How many, of a budget or a summary: 4000", whole(16, 10_000_000)),
                "long_term": _said("Facts of earlier conversations", _LONG_TERM),
            }
        ),
    ]
}

_MARKED: Final = closed(
    {
        "type": {"const": "tool"},
        "tool_type": _said("What the action is for, such as 'code interpreter'", _NEEDED),
        "begin": _said("The marker before the action", _NEEDED),
        "end": _said("The marker behind the action", _NEEDED),
        "validate": _said("How the action is checked", one_of(*get_args(Validation))),
        "code": _said("The source of a function that is given the action", TEXT),
    },
    "type",
    "tool_type",
    "begin",
    "end",
)

_HOOK: Final = {
    **closed(
        {
            "on": _said("The moment", one_of(*get_args(Moment))),
            "do": _said("What is done to the message", one_of(*get_args(HookKind))),
            "senders": _said("Whose messages alone", TEXTS),
            "text": _said("What 'prefix' puts before; what 'guard' says", TEXT),
            "pattern": _said("What 'redact' and 'guard' search for", TEXT),
            "replacement": _said("What 'redact' puts in its place", TEXT),
            "most": _said("How many characters 'limit' leaves", whole()),
            "source": _said("The function of 'code' in Python, or the name of one of the client's", TEXT),
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
    "portico_agent": _said("The version of the specification", {"const": VERSION}),
    "name": _said("What it is called; a deployed agent has the name of its app", TEXT),
    "title": _said("What people see in place of the name", TEXT),
    "description": _said("What it can do, for people and for agents that ask it", TEXT),
    "model": _said("A chat model of the daemon: default", TEXT),
    "instructions": _said("The system message. With variables, {name} is replaced", TEXT),
    "variables": _said("Values for the names in the instructions", OBJECT),
    "tools": _said("Tools by name, or under another name, and functions of a client", _listed(_TOOL)),
    "tool_search": _said(
        f"Whether the model searches for its tools: auto, with more than {MAX_LISTED_TOOLS}",
        {"enum": ["auto", True, False]},
    ),
    "stores": _said("Each becomes a search", TEXTS),
    "skills": _said("Skills by name: the model is told of them, and reads them with read_skill", TEXTS),
    "agents": _said("Other agents, by name or as they are", _listed(_SUB)),
    "strategy": _said("How it comes to its answer: tools", one_of(*get_args(Strategy))),
    "memory": _said("What of the session the model is shown: all", _MEMORY),
    "output": _said(
        "What an answer looks like; of a list, the first that fits",
        {"anyOf": [FORMAT, _MARKED, _listed({"anyOf": [FORMAT, _MARKED]})]},
    ),
    "attempts": _said("How often an answer without the output format is asked for in all: 2", whole(1, 10)),
    "aggregate": _said(
        "How memory becomes messages: default",
        {
            "anyOf": [
                one_of("default", "tool_text"),
                closed({"template": _said("Text with {content} and {sender} in it", _NEEDED)}, "template"),
            ]
        },
    ),
    "few_shot": _said("Messages between the instructions and the memory", _listed(_MESSAGE)),
    "hooks": _said("What is done to messages on the way", _listed(_HOOK)),
    "limits": _said(
        "Ends of one turn",
        closed(
            {
                "turns": _said("Calls of the model: 12, with plan_and_solve 40", whole(1, 10_000)),
                "tokens": _said("Tokens in all; 0: without a limit", whole()),
                "seconds": _said("Seconds in all", number(0.01)),
                "tool_calls": _said("Calls of tools: 40", whole(0, 100_000)),
            }
        ),
    ),
    "final": _said("A pattern; extra_info.final of an answer says whether it stands in it", TEXT),
    "options": _said(
        "OpenAI's parameters for the model",
        closed(
            {option: OBJECT if option == "extra_body" else {} for option in sorted(CHAT_OPTIONS)},
        ),
    ),
    "busy": _said("A second call for a session in use: wait", one_of(*get_args(WhenBusy))),
}
"""The fields of an agent, in the order in which they are documented."""


def schema() -> dict[str, Any]:
    """The whole schema, draft 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An agent of Portico",
        "allOf": [{"$ref": "#/$defs/agent"}],
        "required": ["portico_agent"],
        "$defs": {"agent": closed(FIELDS)},
    }
