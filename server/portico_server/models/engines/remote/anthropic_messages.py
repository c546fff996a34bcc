"""Translates OpenAI chat requests into requests of Anthropic's Messages API. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from portico_server.core.errors import InvalidRequest

DEFAULT_MAX_TOKENS = 8192
"""Maximum tokens of an answer if the caller sets no limit; Anthropic requires a number."""

_UNTRANSLATED = frozenset({"logprobs", "top_logprobs", "logit_bias", "modalities", "audio", "prediction"})

_SAME = ("temperature", "top_p", "top_k", "stream", "thinking", "output_config", "cache_control")
"""Fields that are passed on unchanged: shared by both APIs, or Anthropic's own."""

_JSON_OBJECT = "Answer with one JSON object and nothing else."

Block = dict[str, Any]


def request_of(body: Mapping[str, Any], model: str, max_tokens: int = DEFAULT_MAX_TOKENS) -> dict[str, Any]:
    """Return the Messages API request for an OpenAI chat request.

    Raise `InvalidRequest` that names the field for anything that the Messages API cannot do.
    """
    for key in sorted(_UNTRANSLATED & body.keys()):
        if body[key]:
            raise _cannot(key)
    if body.get("n") not in (None, 1):
        raise InvalidRequest("'n' must be 1: this provider returns only one choice.", param="n")
    system, messages = _conversation(body.get("messages") or ())
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or max_tokens
    request: dict[str, Any] = {"model": model, "max_tokens": limit, "messages": messages}
    request |= {key: body[key] for key in _SAME if body.get(key) is not None}
    if isinstance(request.get("temperature"), int | float):
        request["temperature"] = min(request["temperature"], 1.0)  # Anthropic's maximum is 1, OpenAI's is 2
    stop = body.get("stop")
    if stop:
        request["stop_sequences"] = [stop] if isinstance(stop, str) else list(stop)
    if isinstance(body.get("user"), str):
        request["metadata"] = {"user_id": body["user"]}
    format_option = _format(body.get("response_format"))
    if format_option is not None:
        request["output_config"] = {**request.get("output_config", {}), "format": format_option}
    elif (body.get("response_format") or {}).get("type") == "json_object":
        system.append({"type": "text", "text": _JSON_OBJECT})
    if system:
        request["system"] = system
    return request | _tools(body)


def _conversation(messages_value: Any) -> tuple[list[Block], list[Block]]:
    """Return the system blocks, and the messages with alternating roles."""
    system: list[Block] = []
    messages: list[Block] = []
    for index, message in enumerate(messages_value):
        role, place = message.get("role"), f"messages[{index}]"
        if role in ("system", "developer"):
            system += _blocks(message.get("content"), place)
            continue
        if role == "tool":
            blocks = [_result(message, place)]
        elif role == "assistant":
            blocks = [*_blocks(message.get("content"), place), *_uses(message, place)]
        else:
            blocks = list(_blocks(message.get("content"), place))
        if not blocks:
            continue  # an empty message has no content, and Anthropic refuses it
        provider_role = "assistant" if role == "assistant" else "user"
        if messages and messages[-1]["role"] == provider_role:
            messages[-1]["content"] += blocks
        else:
            messages.append({"role": provider_role, "content": blocks})
    return system, messages


def _blocks(content: Any, path: str) -> Iterator[Block]:
    if isinstance(content, str):
        if content.strip():
            yield {"type": "text", "text": content}
        return
    for number, part in enumerate(content or ()):
        at = f"{path}.content[{number}]"
        match part.get("type"):
            case "text" | "refusal":
                text = part.get("text") or part.get("refusal") or ""
                if text.strip():
                    yield {"type": "text", "text": text}
            case "image_url":
                yield _image(part, at)
            case "file":
                yield _document(part, at)
            case kind:
                raise InvalidRequest(
                    f"This provider accepts text, images and PDF files, not '{kind}'.", param=f"{at}.type"
                )


def _image(part: Mapping[str, Any], at: str) -> Block:
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, Mapping) else image
    if not isinstance(url, str) or not url:
        raise InvalidRequest("An image needs a 'url'.", param=f"{at}.image_url")
    if url.startswith("data:"):
        return {"type": "image", "source": _base64(url, f"{at}.image_url")}
    return {"type": "image", "source": {"type": "url", "url": url}}


def _document(part: Mapping[str, Any], at: str) -> Block:
    file = part.get("file")
    data = file.get("file_data") if isinstance(file, Mapping) else None
    if not isinstance(data, str) or not data.startswith("data:"):
        raise InvalidRequest(
            "A file must be sent as 'file_data': a data URL with its content.", param=f"{at}.file"
        )
    return {"type": "document", "source": _base64(data, f"{at}.file")}


def _base64(url: str, at: str) -> Block:
    head, comma, data = url.partition(",")
    media, _, encoding = head.removeprefix("data:").partition(";")
    if not comma or encoding != "base64" or not media:
        raise InvalidRequest("A data URL must have the form 'data:TYPE;base64,DATA'.", param=at)
    return {"type": "base64", "media_type": media, "data": data}


def _uses(message: Mapping[str, Any], path: str) -> Iterator[Block]:
    for number, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function") or {}
        try:
            arguments = orjson.loads(function.get("arguments") or "{}")
        except orjson.JSONDecodeError:
            arguments = None
        if not isinstance(arguments, dict):
            raise InvalidRequest(
                "The arguments of a tool call must be a JSON object as text.",
                param=f"{path}.tool_calls[{number}].function.arguments",
            )
        yield {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": arguments}


def _result(message: Mapping[str, Any], path: str) -> Block:
    content = list(_blocks(message.get("content"), path))
    block: Block = {"type": "tool_result", "tool_use_id": message.get("tool_call_id")}
    return {**block, "content": content} if content else block


def _tools(body: Mapping[str, Any]) -> dict[str, Any]:
    tools_value = body.get("tools") or ()
    if not tools_value:
        return {}
    tools = []
    for index, tool in enumerate(tools_value):
        function = tool.get("function")
        if tool.get("type") != "function" or not isinstance(function, Mapping):
            raise InvalidRequest(
                "Only tools of the type 'function' are supported.", param=f"tools[{index}].type"
            )
        provider_tool = {
            "name": function.get("name"),
            "description": function.get("description"),
            "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
            "strict": function.get("strict") or None,
        }
        tools.append({key: value for key, value in provider_tool.items() if value is not None})
    choice = _choice(body.get("tool_choice"))
    if body.get("parallel_tool_calls") is False and choice.get("type") != "none":
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return {"tools": tools, "tool_choice": choice} if choice else {"tools": tools}


def _choice(choice: Any) -> dict[str, Any]:
    if isinstance(choice, Mapping):
        return {"type": "tool", "name": (choice.get("function") or {}).get("name")}
    kinds = {"auto": "auto", "none": "none", "required": "any"}
    if choice is not None and choice not in kinds:
        raise InvalidRequest(
            "'tool_choice' must be auto, none, required or a named function.", param="tool_choice"
        )
    return {"type": kinds[choice]} if choice is not None else {}


def _format(format_value: Any) -> dict[str, Any] | None:
    if not isinstance(format_value, Mapping) or format_value.get("type") != "json_schema":
        return None
    schema = (format_value.get("json_schema") or {}).get("schema")
    return {"type": "json_schema", "schema": schema or {"type": "object"}}


def _cannot(key: str) -> InvalidRequest:
    return InvalidRequest(
        f"This provider has no equivalent of '{key}': leave it out, or use another model.",
        code="unsupported_parameter",
        param=key,
    )
