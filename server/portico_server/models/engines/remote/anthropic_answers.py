"""Translates answers of Anthropic's Messages API into OpenAI's format: messages, streams and errors. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import orjson

from portico.wire import Usage
from portico_server.core.errors import EngineFailed, PorticoError
from portico_server.models.openai_wire import error_from_json
from portico_server.models.token_usage import usage_to_json

FINISH_REASONS: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""OpenAI's ``finish_reason`` for each ``stop_reason``."""

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
"""HTTP statuses of errors that arrive inside a stream."""


def completion_of(message: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
    """Return a complete Anthropic message as a ``chat.completion``. Raise `EngineFailed` if ``message`` is not
    valid.
    """
    if message.get("type") != "message" or not isinstance(message.get("content"), list):
        raise EngineFailed("The provider returned something other than a message.")
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
    choice = {
        "index": 0,
        "message": said,
        "logprobs": None,
        "finish_reason": finish,
        **_stop_reason(message),
    }
    return {
        "id": message.get("id") or "",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": message.get("model") or "",
        "choices": [choice],
        "usage": usage_to_json(usage),
    }


def usage_of(usage_fields: Any) -> Usage:
    """Convert Anthropic's token counts; tokens read from or written to Anthropic's cache count as prompt tokens."""
    counts = {key: value for key, value in (usage_fields or {}).items() if isinstance(value, int)}
    cached_tokens = counts.get("cache_read_input_tokens", 0)
    prompt = counts.get("input_tokens", 0) + cached_tokens + counts.get("cache_creation_input_tokens", 0)
    return Usage(prompt, counts.get("output_tokens", 0), cached_tokens)


def _stop_reason(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the field of a choice with the stop sequence that ended the answer, as vLLM reports it."""
    stop_sequence = fields.get("stop_sequence")
    return {"stop_reason": stop_sequence} if stop_sequence else {}


class CompletionStream:
    """A translator of one streamed message's events into chat chunks, one frame at a time.

    ``wants_usage``: end with a chunk that contains the token counts.
    """

    def __init__(self, name: str, *, wants_usage: bool) -> None:
        self.ended = False
        """True once the message has ended."""
        self._name = name
        self._wants_usage = wants_usage
        self._head: dict[str, Any] = {"id": "", "object": "chat.completion.chunk", "created": 0, "model": ""}
        self._counts: dict[str, Any] = {}
        self._calls = -1
        self._silent = False

    @property
    def usage(self) -> Usage:
        """Return the usage counted so far."""
        return usage_of(self._counts)

    def read(self, frames: bytes) -> tuple[bytes, PorticoError | None]:
        """Return the chunks for the events in ``frames`` up to the first error event, and that error."""
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
                # Anthropic sends no arguments for a call that has none, but clients expect a JSON object.
                return self._arguments("{}") if self._silent else b""
            case "message_delta":
                self._counts |= event.get("usage") or {}
                delta = event.get("delta") or {}
                reason = FINISH_REASONS.get(delta.get("stop_reason") or "", "stop")
                return self._chunk({}, reason, _stop_reason(delta))
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
        return b""  # signatures and citations cannot be expressed in OpenAI's chunks

    def _arguments(self, part: str) -> bytes:
        self._silent = False
        return self._chunk({"tool_calls": [{"index": self._calls, "function": {"arguments": part}}]})

    def _end(self) -> bytes:
        self.ended = True
        usage_document = {**self._head, "choices": [], "usage": usage_to_json(self.usage)}
        return (_frame(usage_document) if self._wants_usage else b"") + b"data: [DONE]\n\n"

    def _chunk(
        self, delta: dict[str, Any], finish: str | None = None, stop: Mapping[str, Any] = MappingProxyType({})
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish, **stop}
        return _frame({**self._head, "choices": [choice]})


def error_of_event(event: Mapping[str, Any], name: str) -> PorticoError:
    """Convert an Anthropic error event, ``{"type": "error", "error": {"type", "message"}}``, to a `PorticoError`."""
    kind = (event.get("error") or {}).get("type")
    return error_from_json(STATUSES.get(kind or "", 500), event, name)


def _events(frames: bytes) -> Iterator[Mapping[str, Any]]:
    for line in frames.split(b"\n"):
        if line.startswith(b"data:"):
            try:
                event = orjson.loads(line[5:])
            except orjson.JSONDecodeError as error:
                raise EngineFailed("The provider sent a stream line that is not valid JSON.") from error
            if isinstance(event, dict):
                yield event


def _frame(value: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"
