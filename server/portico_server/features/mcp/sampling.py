"""A run's conversation with the client's own model, and the model's answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import mcp_types as types
from mcp.server.context import ServerRequestContext

from portico.wire import Asked

DEFAULT_MAX_TOKENS: Final = 4_096
"""Token limit of an answer if the chat sets no limit, because the protocol requires a number."""


_DATA: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.+)", re.DOTALL)


_FINISHED: Final = {"maxTokens": "length", "toolUse": "tool_calls"}


def client_model_features(context: ServerRequestContext[Any]) -> frozenset[str]:
    """Return which features the client's model supports: see `portico_server.runs.run.Run.client_model_features`."""
    capabilities = context.session.client_capabilities
    sampling_capability = None if capabilities is None else capabilities.sampling
    if sampling_capability is None:
        return frozenset()
    return frozenset({"chat"} if sampling_capability.tools is None else {"chat", "tools"})


def sampling_request(question: Asked) -> types.CreateMessageRequest:
    """Return a chat as a sampling request to the client."""
    options: Mapping[str, Any] = question.arguments.get("options") or {}
    functions = [tool["function"] for tool in options.get("tools") or () if tool.get("type") == "function"]
    choice = options.get("tool_choice")
    if isinstance(choice, Mapping):  # a specific tool: the protocol can only require that some tool is called
        function_name = (choice.get("function") or {}).get("name")
        functions, choice = [tool for tool in functions if tool["name"] == function_name], "required"
    system, messages = _conversation(question.arguments.get("messages") or ())
    body = _form_of_answer(options.get("response_format"))
    stop = options.get("stop")
    params = types.CreateMessageRequestParams(
        messages=messages,
        system_prompt="\n\n".join([*system, *body]) or None,
        max_tokens=int(
            options.get("max_completion_tokens") or options.get("max_tokens") or DEFAULT_MAX_TOKENS
        ),
        temperature=options.get("temperature"),
        stop_sequences=[stop] if isinstance(stop, str) else list(stop) if stop else None,
        tools=[_tool(tool) for tool in functions] or None,
        tool_choice=types.ToolChoice.model_validate({"mode": choice}) if functions and choice else None,
    )
    return types.CreateMessageRequest(params=params)


def sampled_answer(result: types.CreateMessageResult | types.CreateMessageResultWithTools) -> dict[str, Any]:
    """Return the answer of the client's model in the form that `portico_server.models.client_model` expects."""
    blocks = result.content if isinstance(result.content, list) else [result.content]
    calls = [
        {"id": block.id, "name": block.name, "arguments": json.dumps(block.input, ensure_ascii=False)}
        for block in blocks
        if isinstance(block, types.ToolUseContent)
    ]
    text = "".join(block.text for block in blocks if isinstance(block, types.TextContent))
    reason = _FINISHED.get(result.stop_reason or "", "stop")
    message = {"content": text, "model": result.model, "finish_reason": "tool_calls" if calls else reason}
    return {**message, "tool_calls": calls} if calls else message


def _conversation(messages: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[types.SamplingMessage]]:
    """Return the system messages and the turns. Consecutive tool results form one turn."""
    system: list[str] = []
    turns: list[types.SamplingMessage] = []
    for message in messages:
        role = message.get("role")
        if role in ("system", "developer"):
            system += [block.text for block in _blocks(message) if isinstance(block, types.TextContent)]
            continue
        blocks: list[types.SamplingMessageContentBlock] = list(_blocks(message))
        if role == "tool":
            blocks = [_result(message, blocks)]
            if turns and _holds_results(turns[-1]):
                blocks = [*turns.pop().content_as_list, *blocks]
        blocks += [_use(call) for call in message.get("tool_calls") or ()]
        if blocks:
            turns.append(
                types.SamplingMessage(
                    role="assistant" if role == "assistant" else "user",
                    content=blocks[0] if len(blocks) == 1 else blocks,
                )
            )
    if not turns:  # the protocol requires at least one message
        text = "\n\n".join(system)
        turns, system = [_user_message(text)], []
    return system, turns


def _user_message(text: str) -> types.SamplingMessage:
    return types.SamplingMessage(role="user", content=types.TextContent(type="text", text=text))


def _holds_results(turn: types.SamplingMessage) -> bool:
    return all(isinstance(block, types.ToolResultContent) for block in turn.content_as_list)


def _blocks(message: Mapping[str, Any]) -> Iterator[types.SamplingContent]:
    content = message.get("content")
    parts: Iterable[Mapping[str, Any]] = (
        [{"type": "text", "text": content}] if isinstance(content, str) else content or ()
    )
    for part in parts:
        match part:
            case {"type": "text", "text": str(text)}:
                if text:
                    yield types.TextContent(type="text", text=text)
            case {"type": "image_url", "image_url": {"url": str(url)}}:
                match = _DATA.fullmatch(url)
                if match is not None:
                    yield types.ImageContent(type="image", mime_type=match[1], data=match[2])
                else:
                    yield types.TextContent(type="text", text=f"[a picture: {url[:2_000]}]")
            case {"type": "input_audio", "input_audio": {"data": str(data), "format": str(form)}}:
                yield types.AudioContent(type="audio", mime_type=f"audio/{form}", data=data)
            case _:
                yield types.TextContent(type="text", text=f"[{part.get('type')}, left out]")


def _result(
    message: Mapping[str, Any], blocks: Sequence[types.SamplingMessageContentBlock]
) -> types.ToolResultContent:
    return types.ToolResultContent(
        tool_use_id=str(message.get("tool_call_id") or ""),
        content=[block for block in blocks if isinstance(block, types.TextContent | types.ImageContent)],
    )


def _use(call: Mapping[str, Any]) -> types.ToolUseContent:
    function = call.get("function") or {}
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except ValueError:
        arguments = {}
    return types.ToolUseContent(
        id=str(call.get("id") or ""),
        name=str(function.get("name") or ""),
        input=arguments if isinstance(arguments, dict) else {},
    )


def _tool(function: Mapping[str, Any]) -> types.Tool:
    return types.Tool(
        name=function["name"],
        description=function.get("description"),
        input_schema=dict(function.get("parameters") or {"type": "object"}),
    )


def _form_of_answer(body: Any) -> list[str]:
    """Return prompt text that describes the schema of the answer, because the protocol cannot enforce it."""
    if not isinstance(body, Mapping) or body.get("type") not in ("json_object", "json_schema"):
        return []
    schema = (body.get("json_schema") or {}).get("schema")
    matching = f" that matches this JSON Schema: {json.dumps(schema, ensure_ascii=False)}" if schema else ""
    return [f"Answer with JSON alone, without a fence around it{matching}."]
