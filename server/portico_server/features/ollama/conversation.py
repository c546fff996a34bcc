"""Converts Ollama requests to chat completions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from portico_server.core.invalid import wrong, wrong_type
from portico_server.core.servable import Card
from portico_server.features.anthropic.conversation import THOUGHTS

_PICTURES: Final = {"iVBOR": "png", "/9j/": "jpeg", "R0lG": "gif", "UklGR": "webp"}
"""Base64 prefixes of image formats."""


def chat_options(body: Mapping[str, Any], card: Card) -> dict[str, Any]:
    """Return the options of a chat completion or a completion. Options that concern the placement of a model in memory
    are dropped, because the daemon decides them.
    """
    options = body.get("options") or {}
    names = ("temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty")
    chat_fields = {
        name: options[name] for name in (*names, "repeat_penalty") if options.get(name) is not None
    }
    if options.get("stop"):
        chat_fields["stop"] = options["stop"]
    if (options.get("num_predict") or 0) > 0:
        chat_fields["max_tokens"] = options["num_predict"]
    if body.get("logprobs"):
        chat_fields |= {"logprobs": True, "top_logprobs": body.get("top_logprobs") or 0}
    response_format = body.get("format")
    if response_format == "json":
        chat_fields["response_format"] = {"type": "json_object"}
    elif isinstance(response_format, dict):
        chat_fields["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": response_format},
        }
    elif response_format:
        wrong("format", "must be 'json' or a JSON schema")
    think = body.get("think")
    if THOUGHTS in card.capabilities and think is not None:
        if isinstance(think, str):
            chat_fields["reasoning_effort"] = think
        else:
            chat_fields["chat_template_kwargs"] = {"enable_thinking": bool(think)}
    return chat_fields


def chat_messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return messages in the format of a chat completion. Tool calls get ids, and each tool result gets the id of the
    call that it answers.
    """
    found_chat_messages: list[dict[str, Any]] = []
    pending_calls: list[tuple[str, str]] = []
    for index, message in enumerate(body.get("messages") or ()):
        at = f"messages[{index}]"
        chat_message: dict[str, Any] = {"role": message.get("role"), "content": message.get("content") or ""}
        if images := message.get("images"):
            chat_message["content"] = with_pictures(chat_message["content"], images, f"{at}.images")
        if calls := message.get("tool_calls"):
            if not isinstance(calls, list):
                wrong_type(f"{at}.tool_calls", "a list", calls)
            chat_message["tool_calls"] = [
                _asked_call(call, f"call_{index}_{n}", f"{at}.tool_calls[{n}]")
                for n, call in enumerate(calls)
            ]
            pending_calls += [(call["id"], call["function"]["name"]) for call in chat_message["tool_calls"]]
        if message.get("role") == "tool":
            name = message.get("tool_name") or message.get("name")
            answered_call = next(
                (call for call in pending_calls if call[1] == name),
                pending_calls[0] if pending_calls else None,
            )
            if answered_call is None:
                wrong(at, "answers a call, but no earlier message calls a tool")
            pending_calls.remove(answered_call)
            chat_message["tool_call_id"] = answered_call[0]
        found_chat_messages.append(chat_message)
    return found_chat_messages


def _asked_call(call: Any, call_id: str, at: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        wrong(at, "must be an object with a 'function' that contains a 'name'")
    arguments = orjson.dumps(function.get("arguments") or {}).decode()
    return {"id": call_id, "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def with_pictures(text: Any, images: Any, at: str) -> list[dict[str, Any]]:
    """Return a text and base64 images as the content of a message. Raises `InvalidRequest`."""
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        wrong_type(at, "a list of base64 images", images)
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    for number, image in enumerate(images):
        kind = next((kind for begin, kind in _PICTURES.items() if image.startswith(begin)), None)
        if kind is None:
            wrong(f"{at}[{number}]", "is not a base64 PNG, JPEG, GIF or WebP image")
        parts.append({"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{image}"}})
    return parts
