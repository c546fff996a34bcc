"""A tool that asks a chat model of this daemon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.registry import Registry
from portico_server.core.request import Chat, ChatReply, Message, ToolResult
from portico_server.features.tools.tool import Tool
from portico_server.runs.turn_steps import STEP_CHANGED

MAX_INPUT_CHARS: Final = 200_000

_SETTINGS: Final = ("max_tokens", "temperature")


def tool(_registry: Registry) -> Tool:
    """Return ``ask_model``, which sends a text to a chat model and returns its answer."""
    return Tool(
        name="ask_model",
        title="Ask a model",
        description="Ask a language model of this server; it has no documents and no tools. Its answer is text.",
        input_schema={
            "type": "object",
            "properties": {
                "input": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": MAX_INPUT_CHARS,
                    "description": "What to ask, with all that the model must know.",
                },
                "model": {"type": "string", "description": "The name of a chat model.", "default": "default"},
                "system": {"type": "string", "description": "How the model is to answer."},
                "max_tokens": {"type": "integer", "minimum": 1},
                "temperature": {"type": "number", "minimum": 0, "maximum": 2},
            },
            "required": ["input"],
            "additionalProperties": False,
        },
        output_schema={
            "type": "object",
            "properties": {"model": {"type": "string"}, "answer": {"type": "string"}},
            "required": ["model", "answer"],
        },
        work=_work,
        group="general",
        composed=True,
    )


async def _work(arguments: Mapping[str, Any], context: Context) -> ToolResult:
    model = arguments.get("model") or "default"
    messages: list[Message] = []
    if arguments.get("system"):
        messages.append({"role": "system", "content": arguments["system"]})
    messages.append({"role": "user", "content": arguments["input"]})
    options = {name: arguments[name] for name in _SETTINGS if arguments.get(name) is not None}
    try:
        reply = await context.call(model, Chat(tuple(messages), options))
        if not isinstance(reply, ChatReply):
            raise InvalidRequest(f"'{model}' is not a chat model.", param="model")
    except PorticoError as error:
        if error.status >= 500 or error.code == STEP_CHANGED:
            raise
        return ToolResult(error.message, is_error=True)
    return ToolResult(reply.content, {"model": model, "answer": reply.content})
