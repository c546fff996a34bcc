"""Converts a Messages request to a chat. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from portico_server.core import fields
from portico_server.core.errors import InvalidRequest
from portico_server.core.fields import RequestBody
from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type
from portico_server.core.json_values import optional_flag, optional_mapping, required_text
from portico_server.features.anthropic.blocks import Block
from portico_server.features.anthropic.conversation import MAX_MESSAGES, ROLES, Target, messages_of

CHOICES: Mapping[str, str] = {"auto": "auto", "any": "required", "none": "none"}
"""Maps Anthropic's ``tool_choice`` to the chat's."""


EFFORTS: Mapping[str, str] = {
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
"""Maps ``output_config.effort`` to the chat's ``reasoning_effort``."""


_LITTLE, _MUCH = 4_096, 16_384
"""Thresholds of ``thinking.budget_tokens``: the effort is low below the first threshold, and high from the second
on.
"""


MAX_TOOLS: Final = 1_000


_BLOCKS: Final = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]}


_SHARE: Final = fields.number(0, 1, expectation="a number", limits="between 0 and 1")


COUNTED: Final = RequestBody(
    {
        "model": fields.name().annotate(description="A name from GET /v1/models"),
        "messages": fields.any_value(
            type="array",
            minItems=1,
            maxItems=MAX_MESSAGES,
            items={
                "type": "object",
                "required": ["role", "content"],
                "properties": {"role": {"enum": [*ROLES]}, "content": _BLOCKS},
            },
        ),
    },
    {
        "system": fields.any_value(**_BLOCKS),
        "tools": fields.items(
            fields.any_value(type="object"), "a list of tools", max_items=MAX_TOOLS, item_word="tools"
        ),
        "tool_choice": fields.mapping({"type": fields.choice(*CHOICES, "tool")}),
        "mcp_servers": fields.items(
            fields.mapping({"name": fields.text()}), "a list of MCP servers", max_items=MAX_TOOLS
        ),
        "thinking": fields.mapping(),
        "output_config": fields.mapping({"format": fields.mapping()}),
        "output_format": fields.mapping().annotate(deprecated=True),
    },
    example={"model": "default", "messages": [{"role": "user", "content": "Hello"}]},
)
"""Body of ``POST /v1/messages/count_tokens``. The contents of messages are checked during translation."""


CREATED: Final = RequestBody(
    {
        **COUNTED.required,
        "max_tokens": fields.integer(1, expectation="a whole number", limits="at least 1"),
    },
    {
        **COUNTED.optional,
        "stream": fields.boolean("a boolean").annotate(default=False),
        "stop_sequences": fields.items(fields.name(), "a list of strings"),
        "temperature": _SHARE,
        "top_p": _SHARE,
        "top_k": fields.integer(0, expectation="a whole number", limits="at least 0"),
        "metadata": fields.any_value(description="For Anthropic's accounts; ignored"),
    },
    example={**(COUNTED.example or {}), "max_tokens": 100},
)
"""Body of ``POST /v1/messages``."""


class ThreadRefused(InvalidRequest):
    """A request with ``thread``. Anthropic's clients then send the whole conversation instead."""

    code = "thread_unsupported_request"


def require_supported(body: Mapping[str, Any], target: Target) -> None:
    """Raise `ThreadRefused` for a conversation that the server should hold, and `InvalidRequest` for MCP servers that
    it should call.

    A model of Anthropic has MCP servers. Anthropic would hold a thread for the daemon's own account, so any key could
    continue the conversation of another key.
    """
    if body.get("thread") is not None:
        raise ThreadRefused(
            "Portico does not hold conversations for this API: send all messages, without 'thread'.",
            param="thread",
        )
    servers = body.get("mcp_servers")
    if servers and not target.speaks:
        wrong(
            "mcp_servers[0]",
            f"is the MCP server '{servers[0].get('name') or ''}', which this API does not call; call its tools in the "
            "client, or add the server to Portico ('portico mcp add') and use it in an agent",
        )


def chat_of(body: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """Return the chat to relay. Raise `InvalidRequest` for a field that is invalid or cannot be honoured.

    Fields meant for Anthropic itself (``metadata``, ``cache_control``, ``service_tier``, ``container`` …) are dropped.
    """
    CREATED.check(body)
    chat = {"model": body["model"], **prompt_of(body, target)}
    limit = body["max_tokens"]
    # No answer can reach a limit beyond the context length, and some engines refuse such a limit.
    if target.context_length is None or limit < target.context_length:
        chat["max_tokens"] = limit
    options = {name: body.get(name) for name in ("temperature", "top_p", "top_k")}
    options["stop"] = body.get("stop_sequences") or None
    chat |= {name: value for name, value in options.items() if value is not None}
    if body.get("stream"):
        chat["stream"] = True
    return chat


def prompt_of(body: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """Return the fields of the chat that determine its prompt: the messages, the tools, the format of the answer and
    the effort. Raise `InvalidRequest` for a field that is invalid or cannot be honoured.
    """
    require_supported(body, target)
    messages = {"messages": messages_of(body, target)}
    return messages | tools_of(body, target) | _output(body) | _thinking(body, target)


def tools_of(body: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """Return the client's own tools and the tool choice. Tools defined by Anthropic are omitted."""
    given_tools = body.get("tools") or []
    tools = [
        function
        for index, tool in enumerate(given_tools)
        if (function := _tool(tool, f"tools[{index}]", speaks=target.speaks)) is not None
    ]
    choice = body.get("tool_choice")
    if choice is None:
        return {"tools": tools} if tools else {}
    kind = choice.get("type")
    if kind is None:
        missing("tool_choice.type")
    names = {tool["function"]["name"] for tool in tools}
    tool_choice: Any = CHOICES.get(kind)
    if kind == "tool":
        name = required_text(choice, "name", "tool_choice")
        tool_choice = {"type": "function", "function": {"name": name}}
        if name not in names:
            if not target.speaks:
                wrong("tool_choice.name", _missing_tool(name, given_tools, names))
            tool_choice = "auto"
    elif kind == "any" and not names:
        if not target.speaks:
            wrong(
                "tool_choice",
                "is 'any', but no tool in 'tools' has an 'input_schema'; tools without an 'input_schema' "
                "cannot run here",
            )
        tool_choice = "auto"
    if not tools:
        return {}
    chat_fields = {"tools": tools, "tool_choice": tool_choice}
    if kind != "none" and optional_flag(choice, "disable_parallel_tool_use", "tool_choice"):
        chat_fields["parallel_tool_calls"] = False
    return chat_fields


def _tool(tool: Any, at: str, *, speaks: bool) -> dict[str, Any] | None:
    """Return a tool as a function, or ``None`` for a tool that Anthropic defines, such as web_search or bash.

    Only a model that ``speaks`` this protocol has the tools of MCP servers.
    """
    if not isinstance(tool, dict):
        wrong_type(at, "an object", tool)
    if tool.get("type") not in (None, "custom"):
        if not isinstance(tool["type"], str):
            wrong_type(f"{at}.type", "a string", tool["type"])
        if tool["type"] == "mcp_toolset" and not speaks:
            wrong(
                at,
                f"offers the tools of the MCP server '{tool.get('mcp_server_name') or ''}', which this API does not "
                "call; omit it",
            )
        return None
    name = required_text(tool, "name", at, empty=False)
    schema = optional_mapping(tool, "input_schema", at)
    if schema is None:
        missing(f"{at}.input_schema")
    function: dict[str, Any] = {"name": name, "parameters": schema}
    if isinstance(tool.get("description"), str):
        function["description"] = tool["description"]
    if optional_flag(tool, "strict", at):
        function["strict"] = True
    return {"type": "function", "function": function}


def _missing_tool(name: str, tools: list[Any], names: set[str]) -> str:
    if any(tool.get("name") == name for tool in tools):
        return f"is '{name}', a tool defined by Anthropic that cannot run here; leave the choice to the model"
    return f"is '{name}', but 'tools' lists {', '.join(sorted(names)) or 'nothing'}"


def _output(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema that an answer must match."""
    config = body.get("output_config") or {}
    name = "output_config.format" if config.get("format") is not None else "output_format"
    block: Block | None = config.get("format") or body.get("output_format")
    if block is None:
        return {}
    if block.get("type") != "json_schema":
        not_one_of(f"{name}.type", block.get("type"), ("json_schema",))
    schema = optional_mapping(block, "schema", name)
    if schema is None:
        missing(f"{name}.schema")
    return {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": True},
        }
    }


def _thinking(body: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """Return the thinking effort, for a model whose engine has such a setting."""
    thinking = body.get("thinking")
    config = body.get("output_config") or {}
    if not target.thinks:
        return {}
    if thinking is not None and thinking.get("type") == "disabled":
        return {"chat_template_kwargs": {"enable_thinking": False}}
    effort = config.get("effort")
    if isinstance(effort, str) and effort in EFFORTS:
        return {"reasoning_effort": EFFORTS[effort]}
    budget = (thinking or {}).get("budget_tokens")
    if not isinstance(budget, int):
        return {}
    return {"reasoning_effort": "low" if budget < _LITTLE else "medium" if budget < _MUCH else "high"}
