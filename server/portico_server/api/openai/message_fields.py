"""Validates the messages of a chat completion. Pure."""

from __future__ import annotations

from typing import Any

from portico_server.core import fields
from portico_server.core.fields import BodyField
from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type

_STRING = {"type": "string"}

MAX_MESSAGES = 10_000


ROLES = ("developer", "system", "user", "assistant", "tool", "function")


_TALKERS = ("user", "assistant", "system", "developer")  # messages with these roles only need text


PARTS = ("text", "image_url", "input_audio", "file", "refusal")


def _messages(messages: Any, path: str) -> None:
    if not isinstance(messages, list):
        wrong_type(path, "a list of messages", messages)
    if not messages:
        wrong(path, "must contain at least one message")
    if len(messages) > MAX_MESSAGES:
        wrong(path, f"has {len(messages)} messages; at most {MAX_MESSAGES} are allowed")
    call_ids: set[str] = set()
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            wrong_type(f"{path}[{index}]", "an object with 'role' and 'content'", message)
        role, content = message.get("role"), message.get("content")
        if type(content) is str and role in _TALKERS and "tool_calls" not in message:
            continue  # the common case
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
            call_ids.update(call["id"] for call in message["tool_calls"])
        elif role == "tool":
            answered_id = message.get("tool_call_id")
            if not isinstance(answered_id, str):
                missing(f"{path}[{index}].tool_call_id")
            if answered_id not in call_ids:
                wrong(
                    f"{path}[{index}].tool_call_id",
                    f"is '{answered_id[: fields.MAX_SHOWN_CHARS]}', but no earlier message has a call with "
                    "this id. Send the assistant's message with its 'tool_calls' first",
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
        wrong(path, "must contain either 'file_data' or 'file_id'", code="missing_required_parameter")


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
"""The messages of a conversation. Only assistant messages may omit the content; tool messages need a
``tool_call_id``.
"""
