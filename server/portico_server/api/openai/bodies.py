"""Bodies of chat completions, completions and embeddings: what must be right in them before a model sees them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from portico.wire import UNSUPPORTED
from portico_server.core import fields
from portico_server.core.fields import BodyField, RequestBody
from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type

MAX_CHOICES = 8
MAX_MESSAGES = 10_000
MAX_TOOLS = 128
MAX_INPUTS = 2048
MAX_METADATA = 16
MAX_METADATA_NAME = 64
MAX_METADATA_VALUE = 512

ROLES = ("developer", "system", "user", "assistant", "tool", "function")
_TALKERS = ("user", "assistant", "system", "developer")  # whose messages need a text alone
PARTS = ("text", "image_url", "input_audio", "file", "refusal")
FORMATS = ("text", "json_object", "json_schema")

_FUNCTION_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_STRING = {"type": "string"}
_OBJECT = {"type": "object"}

MODEL = fields.name("must not be empty; GET /v1/models lists the names").noted(
    description="A name from GET /v1/models"
)
STREAM = fields.boolean().noted(default=False)


# --- messages -----------------------------------------------------------------------------------------------


def _messages(found: Any, path: str) -> None:
    if not isinstance(found, list):
        wrong_type(path, "a list of messages", found)
    if not found:
        wrong(path, "must hold at least one message")
    if len(found) > MAX_MESSAGES:
        wrong(path, f"has {len(found)} messages; at most {MAX_MESSAGES} are taken")
    called: set[str] = set()
    for index, message in enumerate(found):
        if not isinstance(message, dict):
            wrong_type(f"{path}[{index}]", "an object with 'role' and 'content'", message)
        role, content = message.get("role"), message.get("content")
        if type(content) is str and role in _TALKERS and "tool_calls" not in message:
            continue  # as most messages are
        if role not in ROLES:
            if role is None:
                missing(f"{path}[{index}].role")
            not_one_of(f"{path}[{index}].role", role, ROLES)
        if type(content) is str:
            pass
        elif isinstance(content, list):
            _parts(content, f"{path}[{index}].content")
        elif content is not None:
            wrong_type(f"{path}[{index}].content", "a string or a list of content parts", content)
        elif role not in ("assistant", "function"):
            missing(f"{path}[{index}].content")
        if role == "assistant" and message.get("tool_calls") is not None:
            _tool_calls(message["tool_calls"], f"{path}[{index}].tool_calls")
            called.update(call["id"] for call in message["tool_calls"])
        elif role == "tool":
            answered = message.get("tool_call_id")
            if not isinstance(answered, str):
                missing(f"{path}[{index}].tool_call_id")
            if answered not in called:
                wrong(
                    f"{path}[{index}].tool_call_id",
                    f"is '{answered[: fields.MAX_SHOWN_CHARS]}', which no message before it calls. Send the "
                    "assistant's message with its 'tool_calls' first",
                )


def _parts(parts: list[Any], path: str) -> None:
    if not parts:
        wrong(path, "must not be an empty list")
    for index, part in enumerate(parts):
        at = f"{path}[{index}]"
        if not isinstance(part, dict):
            wrong_type(at, "an object with a 'type'", part)
        kind = part.get("type")
        if kind not in PARTS:
            not_one_of(f"{at}.type", kind, PARTS)
        if kind == "text" and not isinstance(part.get("text"), str):
            wrong_type(f"{at}.text", "a string", part.get("text"))
        if kind == "image_url":
            image = part.get("image_url")
            if not isinstance(image, dict) or not isinstance(image.get("url"), str):
                wrong(f"{at}.image_url", "must be an object with a string 'url'")
        if kind == "file":
            _file(part.get("file"), f"{at}.file")


def _file(file: Any, path: str) -> None:
    if not isinstance(file, dict):
        wrong_type(path, "an object with 'file_data' or 'file_id'", file)
    for name in ("file_data", "file_id", "filename"):
        if file.get(name) is not None and not isinstance(file[name], str):
            wrong_type(f"{path}.{name}", "a string", file[name])
    if bool(file.get("file_data")) == bool(file.get("file_id")):
        wrong(path, "needs either 'file_data' or 'file_id'", code="missing_required_parameter")


def _tool_calls(calls: Any, path: str) -> None:
    if not isinstance(calls, list):
        wrong_type(path, "a list", calls)
    for index, call in enumerate(calls):
        at = f"{path}[{index}]"
        if not isinstance(call, dict):
            wrong_type(at, "an object with 'id', 'type' and 'function'", call)
        if not isinstance(call.get("id"), str):
            missing(f"{at}.id")
        if call.get("type", "function") != "function":
            continue
        function = call.get("function")
        if not isinstance(function, dict):
            wrong_type(f"{at}.function", "an object with 'name' and 'arguments'", function)
        for name in ("name", "arguments"):
            if not isinstance(function.get(name), str):
                wrong_type(f"{at}.function.{name}", "a string", function.get(name))


MESSAGES = BodyField(
    _messages,
    {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_MESSAGES,
        "items": {
            "type": "object",
            "required": ["role"],
            "properties": {
                "role": {"enum": [*ROLES]},
                "content": {
                    "oneOf": [
                        _STRING,
                        {
                            "type": "array",
                            "minItems": 1,
                            "items": {
                                "type": "object",
                                "required": ["type"],
                                "properties": {"type": {"enum": [*PARTS]}},
                            },
                        },
                        {"type": "null"},
                    ]
                },
                "tool_calls": {"type": "array", "items": {"type": "object", "required": ["id"]}},
                "tool_call_id": _STRING,
            },
        },
    },
)
"""A conversation. Content may be left out by assistants alone; a tool's message needs a ``tool_call_id``."""

# --- tools and formats --------------------------------------------------------------------------------------


def _tools(tools: Any, path: str) -> None:
    if not isinstance(tools, list):
        wrong_type(path, "a list of tools", tools)
    if len(tools) > MAX_TOOLS:
        wrong(path, f"has {len(tools)} items; at most {MAX_TOOLS} are taken")
    for index, tool in enumerate(tools):
        at = f"{path}[{index}]"
        if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
            wrong(at, "must be an object with a string 'type'")
        if tool["type"] != "function":
            continue  # declared by some clients always; nothing here calls it
        function = tool.get("function")
        if not isinstance(function, dict):
            wrong_type(f"{at}.function", "an object with a 'name'", function)
        name = function.get("name")
        if not isinstance(name, str) or not _FUNCTION_NAME.fullmatch(name):
            wrong(f"{at}.function.name", "must be 1 to 64 letters, digits, dots, dashes or underscores")
        parameters = function.get("parameters")
        if parameters is not None:
            fields.check_parameters(name, parameters, f"{at}.function.parameters")


def _response_format(value: Any, path: str) -> None:
    if not isinstance(value, dict):
        wrong_type(path, "an object with a 'type'", value)
    kind = value.get("type")
    if kind not in FORMATS:
        not_one_of(f"{path}.type", kind, FORMATS)
    if kind != "json_schema":
        return
    wrapper = value.get("json_schema")
    if not isinstance(wrapper, dict):
        missing(f"{path}.json_schema")
    if not isinstance(wrapper.get("name"), str):
        missing(f"{path}.json_schema.name")
    if not isinstance(wrapper.get("schema"), dict):
        wrong_type(f"{path}.json_schema.schema", "a JSON Schema object", wrapper.get("schema"))
    fields.check_schema(wrapper["name"], wrapper["schema"], path)


def _metadata(value: Any, path: str) -> None:
    """At most 16 pairs of a name of 64 characters and a value of 512, as OpenAI has it."""
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


def _tool_choice(value: Any, path: str) -> None:
    if isinstance(value, str):
        if value not in ("none", "auto", "required"):
            not_one_of(path, value, ("none", "auto", "required"))
    elif not isinstance(value, dict):
        wrong_type(path, "a string or an object", value)


def _texts_or_tokens(*, empty: bool) -> BodyField:
    """A string, or a list of strings, of token numbers, or of lists of these; which of them a model takes, it says."""

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
            wrong(path, f"has {len(value)} items; at most {MAX_INPUTS} are taken in one request")
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


# --- one field against another ------------------------------------------------------------------------------


def _chat_rule(body: Mapping[str, Any]) -> None:
    choice = body.get("tool_choice")
    if choice is not None and choice not in ("none", "auto"):
        _chosen_tool_is_listed(choice, body.get("tools") or ())
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        wrong("top_logprobs", "needs 'logprobs' to be true")
    if "stream_options" in body:
        _stream_rule(body)


def _stream_rule(body: Mapping[str, Any]) -> None:
    if body.get("stream_options") is not None and not body.get("stream"):
        wrong("stream_options", "is only allowed when 'stream' is true")


def _chosen_tool_is_listed(choice: Any, tools: Sequence[Any]) -> None:
    names = {tool["function"]["name"] for tool in tools if tool.get("type") == "function"}
    if choice == "required":
        if not names:
            wrong("tool_choice", "is 'required', but 'tools' lists no function")
        return
    if choice.get("type") != "function":
        return
    function = choice.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        missing("tool_choice.function.name")
    if name not in names:
        listed = ", ".join(sorted(names)) or "nothing"
        wrong("tool_choice.function.name", f"is '{name}', but 'tools' lists {listed}")


# --- the bodies ---------------------------------------------------------------------------------------------

_SAMPLING: Mapping[str, BodyField] = {
    "stream": STREAM,
    "stream_options": fields.mapping({"include_usage": fields.boolean()}),
    "temperature": fields.number(0, 2),
    "top_p": fields.number(0, 1),
    "presence_penalty": fields.number(-2, 2),
    "frequency_penalty": fields.number(-2, 2),
    "n": fields.integer(1, MAX_CHOICES).noted(default=1),
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
        "max_tokens": fields.integer(1).noted(deprecated=True),
        "max_completion_tokens": fields.integer(1),
        "logprobs": fields.boolean(),
        "top_logprobs": fields.integer(0, 20),
        "tools": BodyField(
            _tools,
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
        "tool_choice": BodyField(_tool_choice, {"oneOf": [{"enum": ["none", "auto", "required"]}, _OBJECT]}),
        "parallel_tool_calls": fields.boolean(),
        "response_format": BodyField(
            _response_format,
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
        "store": fields.boolean().noted(default=False),
        "unsupported": fields.choice(*UNSUPPORTED).noted(
            description="For apps over a store: what becomes of sentences without evidence in its documents"
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
        "encoding_format": fields.choice("float", "base64").noted(default="float"),
        "dimensions": fields.integer(1),
        "user": fields.text(),
    },
    example={"model": "default-embedding", "input": ["one text", "another"]},
)
"""``POST /v1/embeddings``."""
