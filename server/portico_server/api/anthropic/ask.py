"""A Messages request as a chat. Pure.

Source: https://platform.claude.com/docs/en/api/messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from portico_server.api.anthropic import field
from portico_server.api.anthropic.conversation import messages_of
from portico_server.api.anthropic.field import Block
from portico_server.api.anthropic.target import Target
from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type

CHOICES: Mapping[str, str] = {"auto": "auto", "any": "required", "none": "none"}
"""``tool_choice`` there and here."""

EFFORTS: Mapping[str, str] = {
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
"""``output_config.effort`` there and ``reasoning_effort`` here."""

_LITTLE, _MUCH = 4_096, 16_384
"""Tokens of ``thinking.budget_tokens`` below which the effort is low, and from which on it is high."""


def chat_of(body: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """The chat to be relayed. Raises `InvalidRequest` with the field for what is wrong, or cannot be done.

    What Anthropic keeps for itself (``metadata``, ``cache_control``, ``service_tier``, ``container`` …) stays behind.
    """
    chat = {"model": body["model"], "messages": messages_of(body, target)}
    limit = field.whole(body, "max_tokens", 1)
    if limit is None:
        missing("max_tokens")
    # More than the context holds cannot be used up, and some engines refuse it.
    if target.context_length is None or limit < target.context_length:
        chat["max_tokens"] = limit
    given = {
        "temperature": field.share(body, "temperature"),
        "top_p": field.share(body, "top_p"),
        "top_k": field.whole(body, "top_k", 0),
        "stop": field.texts(body, "stop_sequences") or None,
    }
    chat |= {name: value for name, value in given.items() if value is not None}
    if field.flag(body, "stream"):
        chat["stream"] = True
    return chat | tools_of(body, target) | _output(body) | _thinking(body, target)


def model_of(body: Mapping[str, Any]) -> str:
    """The name of who is asked."""
    return field.text(body, "model", "", empty=False)


MAX_TOOLS: Final = 1_000


def tools_of(body: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """The client's own tools, and which may be called. Those that Anthropic defines are not told to the model."""
    given = body.get("tools")
    if given is None:
        given = []
    if not isinstance(given, list):
        wrong_type("tools", "a list of tools", given)
    if len(given) > MAX_TOOLS:
        wrong("tools", f"has {len(given)} tools; at most {MAX_TOOLS} are taken")
    tools = [
        found for index, tool in enumerate(given) if (found := _tool(tool, f"tools[{index}]")) is not None
    ]
    choice = field.mapping(body, "tool_choice")
    if choice is None:
        return {"tools": tools} if tools else {}
    kind = field.one_of(choice.get("type"), "tool_choice.type", (*CHOICES, "tool"))
    names = {tool["function"]["name"] for tool in tools}
    wanted: Any = CHOICES.get(kind)
    if kind == "tool":
        name = field.text(choice, "name", "tool_choice")
        wanted = {"type": "function", "function": {"name": name}}
        if name not in names:
            if not target.speaks:
                wrong("tool_choice.name", _missing_tool(name, given, names))
            wanted = "auto"
    elif kind == "any" and not names:
        if not target.speaks:
            wrong(
                "tool_choice",
                "is 'any', but 'tools' has none with an 'input_schema'; others are not run here",
            )
        wanted = "auto"
    if not tools:
        return {}
    chosen = {"tools": tools, "tool_choice": wanted}
    if kind != "none" and field.flag(choice, "disable_parallel_tool_use", "tool_choice"):
        chosen["parallel_tool_calls"] = False
    return chosen


def _tool(tool: Any, at: str) -> dict[str, Any] | None:
    """A function; ``None`` for a tool that Anthropic defines, such as web_search or bash."""
    if not isinstance(tool, dict):
        wrong_type(at, "an object", tool)
    if tool.get("type") not in (None, "custom"):
        if not isinstance(tool["type"], str):
            wrong_type(f"{at}.type", "a string", tool["type"])
        return None
    name = field.text(tool, "name", at, empty=False)
    schema = field.mapping(tool, "input_schema", at)
    if schema is None:
        missing(f"{at}.input_schema")
    function: dict[str, Any] = {"name": name, "parameters": schema}
    if isinstance(tool.get("description"), str):
        function["description"] = tool["description"]
    if field.flag(tool, "strict", at):
        function["strict"] = True
    return {"type": "function", "function": function}


def _missing_tool(name: str, given: list[Any], names: set[str]) -> str:
    if any(tool.get("name") == name for tool in given):
        return (
            f"is '{name}', a tool that Anthropic defines and nothing here runs; leave the choice to the model"
        )
    return f"is '{name}', but 'tools' lists {', '.join(sorted(names)) or 'nothing'}"


def _output(body: Mapping[str, Any]) -> dict[str, Any]:
    """The schema that an answer must fit."""
    config = field.mapping(body, "output_config") or {}
    name = "output_config.format" if config.get("format") is not None else "output_format"
    wanted: Block | None = field.mapping(config, "format", "output_config") or field.mapping(
        body, "output_format"
    )
    if wanted is None:
        return {}
    if wanted.get("type") != "json_schema":
        not_one_of(f"{name}.type", wanted.get("type"), ("json_schema",))
    schema = field.mapping(wanted, "schema", name)
    if schema is None:
        missing(f"{name}.schema")
    return {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": True},
        }
    }


def _thinking(body: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """How much to think, for a model whose engine can be told."""
    thinking = field.mapping(body, "thinking")
    config = field.mapping(body, "output_config") or {}
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
