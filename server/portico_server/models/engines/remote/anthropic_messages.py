"""OpenAI chat requests as requests of Anthropic's Messages API, and its answers in OpenAI's words."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from portico.wire import Usage
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError
from portico_server.models.openai_wire import error_from_json
from portico_server.models.token_usage import usage_to_json

DEFAULT_MAX_TOKENS = 8192
"""What an answer may have if the caller does not say; Anthropic wants a number."""

_UNTRANSLATED = frozenset({"logprobs", "top_logprobs", "logit_bias", "modalities", "audio", "prediction"})

_SAME = ("temperature", "top_p", "top_k", "stream", "thinking", "output_config", "cache_control")
"""Fields of one name on both sides, Anthropic's own ones included."""

_JSON_OBJECT = "Answer with one JSON object and nothing else."

Block = dict[str, Any]


def request_of(body: Mapping[str, Any], model: str, max_tokens: int = DEFAULT_MAX_TOKENS) -> dict[str, Any]:
    """The request. Raises `InvalidRequest` with the field for what the Messages API cannot do."""
    for key in sorted(_UNTRANSLATED & body.keys()):
        if body[key]:
            raise _cannot(key)
    if body.get("n") not in (None, 1):
        raise InvalidRequest("'n' must be 1: this provider gives one choice.", param="n")
    system, messages = _conversation(body.get("messages") or ())
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or max_tokens
    request: dict[str, Any] = {"model": model, "max_tokens": limit, "messages": messages}
    request |= {key: body[key] for key in _SAME if body.get(key) is not None}
    if isinstance(request.get("temperature"), int | float):
        request["temperature"] = min(request["temperature"], 1.0)  # theirs ends at 1, OpenAI's at 2
    stop = body.get("stop")
    if stop:
        request["stop_sequences"] = [stop] if isinstance(stop, str) else list(stop)
    if isinstance(body.get("user"), str):
        request["metadata"] = {"user_id": body["user"]}
    wanted = _format(body.get("response_format"))
    if wanted is not None:
        request["output_config"] = {**request.get("output_config", {}), "format": wanted}
    elif (body.get("response_format") or {}).get("type") == "json_object":
        system.append({"type": "text", "text": _JSON_OBJECT})
    if system:
        request["system"] = system
    return request | _tools(body)


def _conversation(given: Any) -> tuple[list[Block], list[Block]]:
    """System blocks, and messages in which the roles alternate."""
    system: list[Block] = []
    messages: list[Block] = []
    for index, message in enumerate(given):
        role, where = message.get("role"), f"messages[{index}]"
        if role in ("system", "developer"):
            system += _blocks(message.get("content"), where)
            continue
        if role == "tool":
            blocks = [_result(message, where)]
        elif role == "assistant":
            blocks = [*_blocks(message.get("content"), where), *_uses(message, where)]
        else:
            blocks = list(_blocks(message.get("content"), where))
        if not blocks:
            continue  # an empty message says nothing, and they refuse it
        theirs = "assistant" if role == "assistant" else "user"
        if messages and messages[-1]["role"] == theirs:
            messages[-1]["content"] += blocks
        else:
            messages.append({"role": theirs, "content": blocks})
    return system, messages


def _blocks(content: Any, where: str) -> Iterator[Block]:
    if isinstance(content, str):
        if content.strip():
            yield {"type": "text", "text": content}
        return
    for number, part in enumerate(content or ()):
        at = f"{where}.content[{number}]"
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
                    f"This provider takes text, images and PDF files, not '{kind}'.", param=f"{at}.type"
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
            "A file must come as 'file_data': a data URL with its content.", param=f"{at}.file"
        )
    return {"type": "document", "source": _base64(data, f"{at}.file")}


def _base64(url: str, at: str) -> Block:
    head, comma, data = url.partition(",")
    media, _, encoding = head.removeprefix("data:").partition(";")
    if not comma or encoding != "base64" or not media:
        raise InvalidRequest("A data URL must be 'data:TYPE;base64,DATA'.", param=at)
    return {"type": "base64", "media_type": media, "data": data}


def _uses(message: Mapping[str, Any], where: str) -> Iterator[Block]:
    for number, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function") or {}
        try:
            arguments = orjson.loads(function.get("arguments") or "{}")
        except orjson.JSONDecodeError:
            arguments = None
        if not isinstance(arguments, dict):
            raise InvalidRequest(
                "The arguments of a tool call must be the text of a JSON object.",
                param=f"{where}.tool_calls[{number}].function.arguments",
            )
        yield {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": arguments}


def _result(message: Mapping[str, Any], where: str) -> Block:
    content = list(_blocks(message.get("content"), where))
    found: Block = {"type": "tool_result", "tool_use_id": message.get("tool_call_id")}
    return {**found, "content": content} if content else found


def _tools(body: Mapping[str, Any]) -> dict[str, Any]:
    given = body.get("tools") or ()
    if not given:
        return {}
    tools = []
    for index, tool in enumerate(given):
        function = tool.get("function")
        if tool.get("type") != "function" or not isinstance(function, Mapping):
            raise InvalidRequest("Only tools of the type 'function' are taken.", param=f"tools[{index}].type")
        theirs = {
            "name": function.get("name"),
            "description": function.get("description"),
            "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
            "strict": function.get("strict") or None,
        }
        tools.append({key: value for key, value in theirs.items() if value is not None})
    choice = _choice(body.get("tool_choice"))
    if body.get("parallel_tool_calls") is False and choice.get("type") != "none":
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return {"tools": tools, "tool_choice": choice} if choice else {"tools": tools}


def _choice(given: Any) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return {"type": "tool", "name": (given.get("function") or {}).get("name")}
    kinds = {"auto": "auto", "none": "none", "required": "any"}
    if given is not None and given not in kinds:
        raise InvalidRequest(
            "'tool_choice' must be auto, none, required or a named function.", param="tool_choice"
        )
    return {"type": kinds[given]} if given is not None else {}


def _format(given: Any) -> dict[str, Any] | None:
    if not isinstance(given, Mapping) or given.get("type") != "json_schema":
        return None
    schema = (given.get("json_schema") or {}).get("schema")
    return {"type": "json_schema", "schema": schema or {"type": "object"}}


def _cannot(key: str) -> InvalidRequest:
    return InvalidRequest(
        f"This provider has nothing like '{key}': leave it out, or use another model.",
        code="unsupported_parameter",
        param=key,
    )


# What Anthropic's Messages API answers, in OpenAI's words: messages, streams and errors. Pure.


FINISH_REASONS: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""``stop_reason`` to ``finish_reason``."""

STATUSES: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The HTTP status of an error that comes inside a stream."""


def completion_of(message: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
    """A whole message as a ``chat.completion``. Raises `EngineFailed` if it is none."""
    if message.get("type") != "message" or not isinstance(message.get("content"), list):
        raise EngineFailed("The provider answered something that is not a message.")
    text: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for block in message["content"]:
        match block.get("type"):
            case "text":
                text.append(block.get("text") or "")
            case "thinking":
                thoughts.append(block.get("thinking") or "")
            case "tool_use":
                arguments = orjson.dumps(block.get("input") or {}).decode()
                function = {"name": block.get("name"), "arguments": arguments}
                calls.append({"id": block.get("id"), "type": "function", "function": function})
    said: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(text) or (None if calls else ""),
        "refusal": None,
    }
    if thoughts:
        said["reasoning_content"] = "".join(thoughts)
    if calls:
        said["tool_calls"] = calls
    finish = FINISH_REASONS.get(message.get("stop_reason") or "", "stop")
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": finish}
    return {
        "id": message.get("id") or "",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": message.get("model") or "",
        "choices": [choice],
        "usage": usage_to_json(usage),
    }


def usage_of(given: Any) -> Usage:
    """Their counts in ours: what was read from or written to their cache is part of the prompt."""
    counts = {key: value for key, value in (given or {}).items() if isinstance(value, int)}
    cached = counts.get("cache_read_input_tokens", 0)
    prompt = counts.get("input_tokens", 0) + cached + counts.get("cache_creation_input_tokens", 0)
    return Usage(prompt, counts.get("output_tokens", 0), cached)


class CompletionStream:
    """Turns the events of one streamed message into chunks of a chat, a frame at a time.

    ``wants_usage``: end with a chunk that has the token counts.
    """

    def __init__(self, name: str, *, wants_usage: bool) -> None:
        self.ended = False
        """Whether the message came to its end."""
        self._name = name
        self._wants_usage = wants_usage
        self._head: dict[str, Any] = {"id": "", "object": "chat.completion.chunk", "created": 0, "model": ""}
        self._counts: dict[str, Any] = {}
        self._calls = -1
        self._silent = False

    @property
    def usage(self) -> Usage:
        """What has been counted so far."""
        return usage_of(self._counts)

    def read(self, frames: bytes) -> tuple[bytes, PorticoError | None]:
        """Chunks for the events in ``frames`` up to the first that is an error, and that error."""
        chunks: list[bytes] = []
        try:
            chunks.extend(self._event(event) for event in _events(frames))
        except PorticoError as error:
            return b"".join(chunks), error
        return b"".join(chunks), None

    def _event(self, event: Mapping[str, Any]) -> bytes:
        match event.get("type"):
            case "message_start":
                return self._start(event.get("message") or {})
            case "content_block_start":
                return self._block(event.get("content_block") or {})
            case "content_block_delta":
                return self._delta(event.get("delta") or {})
            case "content_block_stop":
                # A tool without arguments sends none; what clients parse must still be an object.
                return self._arguments("{}") if self._silent else b""
            case "message_delta":
                self._counts |= event.get("usage") or {}
                reason = (event.get("delta") or {}).get("stop_reason")
                return self._chunk({}, FINISH_REASONS.get(reason or "", "stop"))
            case "message_stop":
                return self._end()
            case "error":
                raise error_of_event(event, self._name)
        return b""  # a ping, or an event of a later version

    def _start(self, message: Mapping[str, Any]) -> bytes:
        self._counts |= message.get("usage") or {}
        self._head |= {"id": message.get("id") or "", "model": message.get("model") or ""}
        self._head["created"] = int(time.time())
        return self._chunk({"role": "assistant", "content": ""})

    def _block(self, block: Mapping[str, Any]) -> bytes:
        if block.get("type") != "tool_use":
            return b""
        self._calls += 1
        self._silent = True
        call = {"id": block.get("id"), "type": "function"}
        function = {"name": block.get("name"), "arguments": ""}
        return self._chunk({"tool_calls": [{"index": self._calls, **call, "function": function}]})

    def _delta(self, delta: Mapping[str, Any]) -> bytes:
        match delta.get("type"):
            case "text_delta":
                return self._chunk({"content": delta.get("text") or ""})
            case "thinking_delta":
                return self._chunk({"reasoning_content": delta.get("thinking") or ""})
            case "input_json_delta":
                part = delta.get("partial_json") or ""
                return self._arguments(part) if part else b""
        return b""  # signatures and citations have no place in OpenAI's chunks

    def _arguments(self, part: str) -> bytes:
        self._silent = False
        return self._chunk({"tool_calls": [{"index": self._calls, "function": {"arguments": part}}]})

    def _end(self) -> bytes:
        self.ended = True
        counted = {**self._head, "choices": [], "usage": usage_to_json(self.usage)}
        return (_frame(counted) if self._wants_usage else b"") + b"data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _frame({**self._head, "choices": [choice]})


def error_of_event(event: Mapping[str, Any], name: str) -> PorticoError:
    """``{"type": "error", "error": {"type", "message"}}`` as one of our errors."""
    kind = (event.get("error") or {}).get("type")
    return error_from_json(STATUSES.get(kind or "", 500), event, name)


def _events(frames: bytes) -> Iterator[Mapping[str, Any]]:
    for line in frames.split(b"\n"):
        if line.startswith(b"data:"):
            try:
                event = orjson.loads(line[5:])
            except orjson.JSONDecodeError as error:
                raise EngineFailed("The provider sent a line of its stream that is not JSON.") from error
            if isinstance(event, dict):
                yield event


def _frame(value: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"
