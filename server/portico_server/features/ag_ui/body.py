"""Converts the input of an AG-UI run to a chat completion request. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from portico_server.core import fields
from portico_server.core.fields import RequestBody
from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type

MAX_ID_CHARS: Final = 256
"""Maximum length, in characters, of a thread id or run id from a front end. The first and last events of a run repeat
both ids.
"""

_CONTEXT: Final = fields.mapping({"description": fields.text(), "value": fields.text()})

_TOOL: Final = fields.mapping({"name": fields.name(), "description": fields.text()})

ASKED: Final = RequestBody(
    {
        "threadId": fields.identifier(MAX_ID_CHARS),
        "runId": fields.identifier(MAX_ID_CHARS),
        "messages": fields.items(fields.mapping({"role": fields.text()}), "a list of messages"),
    },
    {
        "tools": fields.items(_TOOL, "a list of tools"),
        "context": fields.items(_CONTEXT, "a list of texts with descriptions", max_items=1_000),
        "resume": fields.items(fields.mapping(), "a list of answers"),
    },
    example={"threadId": "t", "runId": "r", "messages": [{"id": "1", "role": "user", "content": "Hello"}]},
)
"""Fields of a ``RunAgentInput``. Unknown fields are ignored, as the protocol requires."""

_SAID: Final = ("developer", "system", "user", "assistant", "tool")

_SHOWN: Final = ("activity", "reasoning")
"""Roles of messages meant for observers and not for the model."""


def chat_of(name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the input of a run as a chat completion request. Raises `InvalidRequest`."""
    messages = [
        _message(message, f"messages[{number}]")
        for number, message in enumerate(body["messages"])
        if message.get("role") not in _SHOWN
    ]
    if context := body.get("context"):
        lines = [f"- {entry.get('description', '')}: {entry.get('value', '')}" for entry in context]
        messages.insert(0, {"role": "system", "content": "\n".join(("What the application says:", *lines))})
    chat: dict[str, Any] = {"model": name, "messages": messages}
    if tools := body.get("tools"):
        chat["tools"] = [_tool(tool, f"tools[{number}]") for number, tool in enumerate(tools)]
    if body.get("resume"):
        wrong("resume", "is not supported: a run that asks a question waits until it is answered")
    return chat


def _message(message: Mapping[str, Any], at: str) -> dict[str, Any]:
    role = message.get("role")
    if role not in _SAID:
        not_one_of(f"{at}.role", role, (*_SAID, *_SHOWN))
    chat_message: dict[str, Any] = {
        "role": role,
        "content": _content(message.get("content"), f"{at}.content"),
    }
    if message.get("name"):
        chat_message["name"] = message["name"]
    if role == "assistant" and message.get("toolCalls"):
        chat_message["tool_calls"] = message["toolCalls"]
    if role == "tool":
        if not isinstance(message.get("toolCallId"), str):
            missing(f"{at}.toolCallId")
        chat_message["tool_call_id"] = message["toolCallId"]
        if message.get("error"):
            chat_message["content"] = f"{chat_message['content'] or ''}\nError: {message['error']}".strip()
    return chat_message


def _content(value: Any, at: str) -> Any:
    if not isinstance(value, list):
        return value if value is not None else ""
    return [_part(part, f"{at}[{number}]") for number, part in enumerate(value)]


def _part(part: Any, at: str) -> dict[str, Any]:
    if not isinstance(part, Mapping):
        wrong_type(at, "an object", part)
    if part.get("type") == "text":
        return {"type": "text", "text": part.get("text")}
    if part.get("type") != "image":
        not_one_of(f"{at}.type", part.get("type"), ("text", "image"))
    source = part.get("source")
    if not isinstance(source, Mapping) or not isinstance(source.get("value"), str):
        wrong(f"{at}.source", "must be an object with a 'value'")
    if source.get("type") == "url":
        return {"type": "image_url", "image_url": {"url": source["value"]}}
    if source.get("type") != "data":
        not_one_of(f"{at}.source.type", source.get("type"), ("data", "url"))
    kind = source.get("mimeType") or "image/png"
    return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{source['value']}"}}


def _tool(tool: Mapping[str, Any], at: str) -> dict[str, Any]:
    if not tool.get("name"):
        missing(f"{at}.name")
    parameters = tool.get("parameters") or {"type": "object", "properties": {}}
    function = {
        "name": tool["name"],
        "description": tool.get("description") or "",
        "parameters": parameters,
    }
    return {"type": "function", "function": function}
