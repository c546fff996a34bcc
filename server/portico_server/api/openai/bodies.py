"""Validates chat completion, completion and embedding requests before they reach a model. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico.wire import UNSUPPORTED
from portico_server.api.openai.message_fields import MESSAGES
from portico_server.api.openai.tool_fields import (
    _FUNCTION_NAME,
    FORMATS,
    MAX_TOOLS,
    check_chosen_tool,
    check_response_format,
    check_tool_choice,
    check_tools,
)
from portico_server.core import fields
from portico_server.core.fields import BodyField, RequestBody
from portico_server.core.invalid import wrong, wrong_type

MAX_CHOICES = 8
MAX_INPUTS = 2048
MAX_METADATA = 16
MAX_METADATA_NAME = 64
MAX_METADATA_VALUE = 512


_STRING = {"type": "string"}
_OBJECT = {"type": "object"}

MODEL = fields.name("must not be empty; GET /v1/models lists the names").annotate(
    description="A name from GET /v1/models"
)
STREAM = fields.boolean().annotate(default=False)


def _metadata(value: Any, path: str) -> None:
    """Check that metadata has at most 16 entries, with names of at most 64 and values of at most 512 characters, as
    OpenAI requires.
    """
    if not isinstance(value, dict):
        wrong_type(path, "an object", value)
    if len(value) > MAX_METADATA:
        wrong(path, f"has {len(value)} entries; at most {MAX_METADATA} are allowed")
    for name, item in value.items():
        if len(name) > MAX_METADATA_NAME:
            wrong(path, f"has a name of {len(name)} characters; at most {MAX_METADATA_NAME} are allowed")
        if isinstance(item, str) and len(item) > MAX_METADATA_VALUE:
            wrong(f"{path}.{name}", f"has {len(item)} characters; at most {MAX_METADATA_VALUE} are allowed")
        if isinstance(item, dict | list):
            wrong_type(f"{path}.{name}", "a string", item)


def _texts_or_tokens(*, empty: bool) -> BodyField:
    """Return a field for a string, or for a list of strings, of token ids, or of token id lists. The model decides
    which of them it accepts.
    """

    def check(value: Any, path: str) -> None:
        if isinstance(value, str):
            if not value and not empty:
                wrong(path, "must not be empty")
            return
        if not isinstance(value, list):
            wrong_type(path, "a string or a list of strings", value)
        if not value:
            wrong(path, "must not be an empty list")
        if len(value) > MAX_INPUTS:
            wrong(path, f"has {len(value)} items; at most {MAX_INPUTS} are allowed in one request")
        kind = str if isinstance(value[0], str) else list if isinstance(value[0], list) else int
        for index, item in enumerate(value):
            if type(item) is not kind:
                wrong_type(f"{path}[{index}]", "of the same kind as the first item", item)
            if item in ("", []) and not empty:
                wrong(f"{path}[{index}]", "must not be empty")

    size = {} if empty else {"minLength": 1}
    tokens = {"type": "array", "items": {"type": "integer"}, **({} if empty else {"minItems": 1})}
    kinds = [{**_STRING, **size}, {"type": "integer"}, tokens]
    several = {"type": "array", "items": {"oneOf": kinds}, "minItems": 1, "maxItems": MAX_INPUTS}
    return BodyField(check, {"oneOf": [kinds[0], several]})


def _chat_rule(body: Mapping[str, Any]) -> None:
    check_chosen_tool(body.get("tool_choice"), body.get("tools") or ())
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        wrong("top_logprobs", "requires 'logprobs' to be true")
    if "stream_options" in body:
        _stream_rule(body)


def _stream_rule(body: Mapping[str, Any]) -> None:
    if body.get("stream_options") is not None and not body.get("stream"):
        wrong("stream_options", "is only allowed when 'stream' is true")


_SAMPLING: Mapping[str, BodyField] = {
    "stream": STREAM,
    "stream_options": fields.mapping({"include_usage": fields.boolean()}),
    "temperature": fields.number(0, 2),
    "top_p": fields.number(0, 1),
    "presence_penalty": fields.number(-2, 2),
    "frequency_penalty": fields.number(-2, 2),
    "n": fields.integer(1, MAX_CHOICES).annotate(default=1),
    "max_tokens": fields.integer(1),
    "seed": fields.integer(),
    "stop": fields.STOP,
    "logit_bias": fields.LOGIT_BIAS,
    "user": fields.text(),
}

METADATA = BodyField(
    _metadata,
    {
        "type": "object",
        "maxProperties": MAX_METADATA,
        "propertyNames": {"maxLength": MAX_METADATA_NAME},
        "additionalProperties": {
            "type": ["string", "number", "boolean", "null"],
            "maxLength": MAX_METADATA_VALUE,
        },
    },
)

CHAT = RequestBody(
    {
        "model": MODEL,
        "messages": MESSAGES,
    },
    {
        **_SAMPLING,
        "max_tokens": fields.integer(1).annotate(deprecated=True),
        "max_completion_tokens": fields.integer(1),
        "logprobs": fields.boolean(),
        "top_logprobs": fields.integer(0, 20),
        "tools": BodyField(
            check_tools,
            {
                "type": "array",
                "maxItems": MAX_TOOLS,
                "items": {
                    "type": "object",
                    "required": ["type"],
                    "properties": {
                        "type": _STRING,
                        "function": {
                            "type": "object",
                            "required": ["name"],
                            "properties": {
                                "name": {"type": "string", "pattern": f"^{_FUNCTION_NAME.pattern}$"},
                                "parameters": _OBJECT,
                            },
                        },
                    },
                },
            },
        ),
        "tool_choice": BodyField(
            check_tool_choice, {"oneOf": [{"enum": ["none", "auto", "required"]}, _OBJECT]}
        ),
        "parallel_tool_calls": fields.boolean(),
        "response_format": BodyField(
            check_response_format,
            {
                "type": "object",
                "required": ["type"],
                "properties": {
                    "type": {"enum": [*FORMATS]},
                    "json_schema": {
                        "type": "object",
                        "required": ["name", "schema"],
                        "properties": {"name": _STRING, "schema": _OBJECT},
                    },
                },
            },
        ),
        "metadata": METADATA,
        "store": fields.boolean().annotate(default=False),
        "unsupported": fields.choice(*UNSUPPORTED).annotate(
            description="For apps over a store: how to treat sentences that the store's documents do not support"
        ),
    },
    rule=_chat_rule,
    example={"model": "default", "messages": [{"role": "user", "content": "Hello"}]},
)
"""``POST /v1/chat/completions``."""

COMPLETION = RequestBody(
    {
        "model": MODEL,
        "prompt": _texts_or_tokens(empty=True),
    },
    {
        **_SAMPLING,
        "max_tokens": fields.integer(0),
        "logprobs": fields.integer(0, 5),
        "echo": fields.boolean(),
        "suffix": fields.text(),
        "best_of": fields.integer(1, MAX_CHOICES),
    },
    rule=_stream_rule,
    example={"model": "default", "prompt": "Once upon a time", "max_tokens": 32},
)
"""``POST /v1/completions``."""

EMBEDDING = RequestBody(
    {
        "model": MODEL,
        "input": _texts_or_tokens(empty=False),
    },
    {
        "encoding_format": fields.choice("float", "base64").annotate(default="float"),
        "dimensions": fields.integer(1),
        "user": fields.text(),
    },
    example={"model": "default-embedding", "input": ["one text", "another"]},
)
"""``POST /v1/embeddings``."""
