"""Apps, models and stores as functions: an app's function has the app's input and output schemas, or takes and returns
text if the app has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from portico_server.core.passage import CLAIM_SCHEMA, PASSAGE_SCHEMA
from portico_server.core.request import AppInput, Chat, Request, Search
from portico_server.core.servable import Card

INPUT: Final = "input"
"""Name of the only argument of a tool whose input is a text or another value that is not an object."""

_EARLIER_NAMES: Final = ("question", "message")
"""Earlier names of the argument `INPUT`; clients may still use them."""

RESULT: Final = "result"
"""Name of the result field for an output that is not an object."""


def _conversation(description: str) -> dict[str, Any]:
    """Return a schema for one text and the preceding turns."""
    return {
        "type": "object",
        "properties": {
            INPUT: {"type": "string", "minLength": 1, "description": description},
            "history": {
                "type": "array",
                "description": "Earlier turns of the conversation, oldest first, if this builds on them.",
                "items": {
                    "type": "object",
                    "properties": {
                        "role": {"type": "string", "enum": ["user", "assistant"]},
                        "content": {"type": "string"},
                    },
                    "required": ["role", "content"],
                    "additionalProperties": False,
                },
            },
        },
        "required": [INPUT],
        "additionalProperties": False,
    }


_ASK: Final = _conversation("What to ask, as one full question.")
_ASK_AGENT: Final = {
    **_ASK,
    "properties": {
        **_ASK["properties"],
        "conversation": {
            "type": "string",
            "description": "The name of a conversation that the agent remembers; leave 'history' out then.",
        },
    },
}
SEARCH: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "minLength": 1, "description": "What to look for."},
        "max_num_results": {"type": "integer", "minimum": 1, "maximum": 50, "default": 10},
    },
    "required": ["query"],
    "additionalProperties": False,
}
"""The input schema of a search in a store."""

_TELL: Final = _conversation("What to say to the app.")
_TELL_MODEL: Final = _conversation("What to ask the model, with all that it must know.")
_ANSWER: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "answer": {"type": "string"},
        "citations": {"type": "array", "items": PASSAGE_SCHEMA},
        "cited": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "Ranks of the citations that the answer points at.",
        },
        "claims": {"type": "array", "items": CLAIM_SCHEMA},
    },
    "required": ["answer", "citations", "cited", "claims"],
}


def schemas(card: Card) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    """Return the input and output schemas of an app's tool. Both are objects, as MCP requires."""
    kind = card.labels.get("app")
    if card.kind == "model":
        return _TELL_MODEL, _ANSWER
    if kind != "flow":
        return (_ASK_AGENT if kind == "agent" else _ASK), _ANSWER
    if not has_schema(card):
        return _TELL, _ANSWER
    schema = card.input_schema
    if schema is None:
        input_schema: Mapping[str, Any] = _TELL
    elif _is_object(schema):
        input_schema = schema
    else:
        input_schema = _object_with(INPUT, schema)
    output_schema = card.output_schema
    return input_schema, None if output_schema is None else output_schema if _is_object(
        output_schema
    ) else _object_with(RESULT, output_schema)


def request(card: Card, arguments: Mapping[str, Any]) -> Request:
    """Return the request that the function of an app, a store or a model makes of its checked arguments."""
    if card.kind == "store":
        return search_request(arguments)
    if card.labels.get("app") != "flow" or not has_schema(card):
        return _chat(arguments)
    if card.input_schema is None:
        return _chat(arguments) if arguments.get("history") else AppInput(arguments[INPUT])
    return AppInput(dict(arguments) if _is_object(card.input_schema) else arguments[INPUT])


def search_request(arguments: Mapping[str, Any]) -> Search:
    """Return the search for arguments that match the schema `SEARCH`."""
    return Search(arguments["query"], max_num_results=int(arguments.get("max_num_results", 10)))


def rename_input(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments, with a value under an earlier name moved to `INPUT`."""
    properties = schema.get("properties") or {}
    if INPUT not in properties or INPUT in arguments:
        return arguments
    argument_names = {
        INPUT if name in _EARLIER_NAMES and name not in properties else name for name in arguments
    }
    if INPUT not in argument_names or len(argument_names) < len(arguments):
        return arguments
    return {
        INPUT if name in _EARLIER_NAMES and name not in properties else name: value
        for name, value in arguments.items()
    }


def as_object(value: Any) -> Mapping[str, Any]:
    """Return an app's output as the structured content of a result."""
    return value if isinstance(value, dict) else {RESULT: value}


def changes_nothing(card: Card) -> bool:
    """Return whether calling an app certainly changes nothing. An app over a store only reads; a flow may change
    something.
    """
    return card.kind == "app" and not card.labels.get("app")


def has_schema(card: Card) -> bool:
    """Return whether an app declares its input or output. An app without such a declaration is a conversation."""
    return card.input_schema is not None or card.output_schema is not None


def _is_object(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "object"


def _object_with(key: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {key: dict(schema)}, "required": [key]}


def _chat(arguments: Mapping[str, Any]) -> Chat:
    chat_fields = {"conversation": arguments["conversation"]} if arguments.get("conversation") else {}
    return Chat((*arguments.get("history", ()), {"role": "user", "content": arguments[INPUT]}), chat_fields)
