"""Forms of a chat request that other servers accept, changed into OpenAI's form before the request is checked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import orjson

SCHEMA_NAME: Final = "answer"
"""Name of a schema that a request gives without a name."""


def use_openai_form(body: dict[str, Any]) -> None:
    """Change a chat request into OpenAI's form, as far as its intention is clear; checks refuse the rest.

    Calls without an id, and results of tools without the id of a call, get ids in their order. Arguments become a
    string. A schema beside its ``type``, as llama.cpp documents it, and a schema without a name, are wrapped.
    """
    messages = body.get("messages")
    if isinstance(messages, list):
        body["messages"] = _with_call_ids(messages)
    response_format = body.get("response_format")
    if isinstance(response_format, dict) and response_format.get("type") == "json_schema":
        body["response_format"] = _wrapped_schema(response_format)


def _with_call_ids(messages: Sequence[Any]) -> list[Any]:
    completed_messages: list[Any] = []
    unanswered_ids: list[Any] = []
    for index, message in enumerate(messages):
        if isinstance(message, dict):
            if isinstance(message.get("tool_calls"), list):
                calls = [
                    _completed_call(call, f"call_{index}_{position}")
                    for position, call in enumerate(message["tool_calls"])
                ]
                unanswered_ids = [call.get("id") for call in calls if isinstance(call, dict)]
                message = {**message, "tool_calls": calls}
            elif message.get("role") == "tool":
                call_id = message.get("tool_call_id")
                if not call_id and unanswered_ids:
                    message = {**message, "tool_call_id": unanswered_ids.pop(0)}
                elif call_id in unanswered_ids:
                    unanswered_ids.remove(call_id)
        completed_messages.append(message)
    return completed_messages


def _completed_call(call: Any, call_id: str) -> Any:
    if not isinstance(call, dict):
        return call
    function = call.get("function")
    if isinstance(function, dict) and isinstance(function.get("arguments"), dict):
        with suppress(orjson.JSONEncodeError):  # too deeply nested; the checks refuse it
            arguments = orjson.dumps(function["arguments"]).decode()
            call = {**call, "function": {**function, "arguments": arguments}}
    return call if call.get("id") else {**call, "id": call_id}


def _wrapped_schema(response_format: dict[str, Any]) -> dict[str, Any]:
    wrapper = response_format.get("json_schema")
    if wrapper is None and isinstance(response_format.get("schema"), dict):
        wrapper = {"schema": response_format["schema"]}
    if not isinstance(wrapper, dict):
        return response_format
    if wrapper.get("name") is None:
        wrapper = {**wrapper, "name": SCHEMA_NAME}
    return {"type": "json_schema", "json_schema": wrapper}
