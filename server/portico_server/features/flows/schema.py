"""The JSON schema of a flow's specification. It covers only the form; `check` checks the names.

`portico_server.features.flows.read` parses specifications that match this schema; a test compares the two, op by op.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from portico_server.features.flows.spec import VERSION

TEXT: Final = {"type": "string"}
_NAME: Final = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_-]{0,63}$"}
OBJECT: Final = {"type": "object"}
_FLAG: Final = {"type": "boolean"}
TEXTS: Final = {"type": "array", "items": TEXT}
_STEP: Final = {"$ref": "#/$defs/step"}
_VALUE: Final = {"$ref": "#/$defs/expression"}
_STEPS: Final = {"type": "array", "items": _STEP, "minItems": 1}
_ARGUMENTS: Final = {
    "args": {"type": "array", "items": _VALUE},
    "kwargs": {"type": "object", "additionalProperties": _VALUE},
}


def number(minimum: float = 0, maximum: float = 1e9) -> dict[str, Any]:
    """Return the schema of a number within inclusive bounds."""
    return {"type": "number", "minimum": minimum, "maximum": maximum}


def integer(minimum: int = 0, limit: int = 10**9) -> dict[str, Any]:
    """Return the schema of a whole number within inclusive bounds."""
    return {"type": "integer", "minimum": minimum, "maximum": limit}


def one_of(*words: str) -> dict[str, Any]:
    """Return the schema of one of the given words."""
    return {"type": "string", "enum": list(words)}


def closed_object(fields: Mapping[str, Any], *required_names: str) -> dict[str, Any]:
    """Return the schema of an object with these fields and no others."""
    object_schema: dict[str, Any] = {
        "type": "object",
        "properties": dict(fields),
        "additionalProperties": False,
    }
    if required_names:
        object_schema["required"] = list(required_names)
    return object_schema


_FORMATS: Final = ("text", "json", "yaml", "regex", "last")

FORMAT: Final = {
    "anyOf": [
        one_of("text", "json", "yaml", "last"),
        {
            **closed_object(
                {
                    "type": one_of(*_FORMATS),
                    "schema": OBJECT,
                    "pattern": {"type": "string", "maxLength": 1000},
                    "group": integer(0, 99),
                    "attempts": integer(1, 10),
                }
            ),
            "if": {"properties": {"type": {"const": "regex"}}, "required": ["type"]},
            "then": {"properties": {"pattern": {"minLength": 1}}, "required": ["pattern"]},
        },
    ]
}

_JOINED: Final = {
    "steps": _STEPS,
    "join": one_of("list", "dict", "sum", "text", "zip"),
    "separator": TEXT,
    "concurrency": integer(0, 10_000),
    "collect": _FLAG,
}

_CASE: Final = {
    **closed_object({"equals": _VALUE, "when": _VALUE, "step": _STEP}, "step"),
    "oneOf": [{"required": ["equals"]}, {"required": ["when"]}],
}

OPS: Final[Mapping[str, tuple[Mapping[str, Any], tuple[str, ...]]]] = {
    "llm": (
        {
            "model": TEXT,
            "system": _VALUE,
            "user": _VALUE,
            "messages": _VALUE,
            "history": _VALUE,
            "few_shot": _VALUE,
            "options": _VALUE,
            "format": {"$ref": "#/$defs/format"},
        },
        (),
    ),
    "intent": (
        {
            "text": _VALUE,
            "intents": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {
                    "anyOf": [TEXT, closed_object({"description": TEXT, "examples": TEXTS})]
                },
            },
            "model": TEXT,
            "embedding": TEXT,
            "history": _VALUE,
            "default": TEXT,
        },
        ("intents",),
    ),
    "embed": ({"model": TEXT, "text": _VALUE}, ()),
    "agent": (
        {
            "agent": {"anyOf": [TEXT, {**OBJECT, "required": ["portico_agent"]}]},
            "message": _VALUE,
            "session": _VALUE,
        },
        ("agent",),
    ),
    "tool": ({"tool": TEXT, "arguments": _VALUE}, ("tool",)),
    "retrieve": (
        {
            "store": TEXT,
            "stores": TEXTS,
            "query": _VALUE,
            "top_k": integer(1, 1000),
            "groups": TEXTS,
            "ranker": one_of("auto", "lexical", "vector", "hybrid", "rrf"),
            "threshold": number(0, 1),
            "filters": _VALUE,
        },
        (),
    ),
    "rerank": (
        {"model": TEXT, "query": _VALUE, "documents": _VALUE, "top_k": integer(0, 10_000)},
        ("model", "query"),
    ),
    "code": ({"source": TEXT, **_ARGUMENTS}, ("source",)),
    "client": ({"function": TEXT, **_ARGUMENTS, "limit": number(0.01, 604_800)}, ("function",)),
    "approve": ({"message": _VALUE, "answer_schema": OBJECT, "limit": number(0.01, 31_536_000)}, ()),
    "subflow": ({"app": TEXT, "step": _STEP}, ()),
    "emit": ({"text": _VALUE}, ()),
    "http": (
        {
            "method": one_of("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
            "url": _VALUE,
            "headers": _VALUE,
            "body": _VALUE,
        },
        ("url",),
    ),
    "pipeline": ({"steps": _STEPS, "output": _VALUE}, ("steps",)),
    "parallel": (_JOINED, ("steps",)),
    "diverter": (_JOINED, ("steps",)),
    "warp": (
        {"step": _STEP, "over": _VALUE, "concurrency": integer(1, 10_000), "collect": _FLAG},
        ("step",),
    ),
    "switch": (
        {"on": _VALUE, "cases": {"type": "array", "items": _CASE, "minItems": 1}, "default": _STEP},
        ("cases",),
    ),
    "branch": ({"condition": _VALUE, "then": _STEP, "else": _STEP}, ("then",)),
    "loop": (
        {
            "step": _STEP,
            "limit": integer(1, 1_000_000),
            "until": _VALUE,
            "state": _VALUE,
            "exhausted": one_of("return", "fail"),
        },
        ("step", "limit"),
    ),
    "graph": (
        {
            "steps": _STEPS,
            "after": {"type": "object", "additionalProperties": TEXTS},
            "output": _VALUE,
            "concurrency": integer(0, 10_000),
        },
        ("steps",),
    ),
}
"""The fields of each op, and the names of its required fields."""

_SHARED: Final[Mapping[str, Any]] = {
    "expression": {
        "description": "A literal, or an object with $ref, $template, a comparison, $code or $literal."
    },
    "format": FORMAT,
    "name": _NAME,
    "retry": {
        "anyOf": [
            integer(0, 100),
            closed_object(
                {
                    "times": integer(0, 100),
                    "delay": number(0, 3600),
                    "factor": number(1, 10),
                    "on": TEXTS,
                }
            ),
        ]
    },
    "cache": {"anyOf": [_FLAG, closed_object({"ttl": number(1)})]},
    "on_error": {
        "anyOf": [
            {"const": "fail"},
            closed_object({"value": _VALUE}, "value"),
            closed_object({"goto": TEXT}, "goto"),
        ]
    },
}

EITHER: Final[Mapping[str, tuple[str, str]]] = {"retrieve": ("store", "stores"), "subflow": ("app", "step")}
"""Pairs of fields, of which the op must have exactly one."""

AROUND: Final[Mapping[str, Any]] = {
    "name": {"$ref": "#/$defs/name"},
    "input": _VALUE,
    "when": _VALUE,
    "retry": {"$ref": "#/$defs/retry"},
    "timeout": number(0.001),
    "cache": {"$ref": "#/$defs/cache"},
    "on_error": {"$ref": "#/$defs/on_error"},
    "save": TEXT,
    "stream": _FLAG,
    "output_schema": OBJECT,
}
"""The fields that every step may have."""


def schema() -> dict[str, Any]:
    """Return the whole JSON schema, draft 2020-12."""
    steps = {
        op: {
            "allOf": [{"$ref": "#/$defs/around"}],
            "properties": {"op": {"const": op}, **fields},
            "required": ["op", *required_fields],
            **({"oneOf": [{"required": [field]} for field in EITHER[op]]} if op in EITHER else {}),
            "unevaluatedProperties": False,
        }
        for op, (fields, required_fields) in OPS.items()
    }
    full_schema = closed_object(
        {
            "portico_flow": {"const": VERSION},
            "name": TEXT,
            "title": TEXT,
            "description": TEXT,
            "input_schema": OBJECT,
            "output_schema": OBJECT,
            "durability": one_of("off", "normal", "full"),
            "timeout": number(0.001),
            "redact": {"type": "array", "items": TEXT},
            "step": _STEP,
        },
        "portico_flow",
        "step",
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A Portico flow",
        **full_schema,
        "$defs": {
            **_SHARED,
            "around": {"type": "object", "properties": dict(AROUND)},
            **steps,
            "step": {"oneOf": [{"$ref": f"#/$defs/{op}"} for op in steps]},
        },
    }
