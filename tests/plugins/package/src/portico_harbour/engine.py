"""An in-process engine: it answers with the words of the last message in reverse order, over and over."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from portico.plugin import (
    InvalidRequest,
    LaunchContext,
    ModelDescription,
    ModelSpec,
    Relay,
    RelayResponse,
    RunningEngine,
    Usage,
)

PORTICO_PLUGIN_API = 1

DEFAULT_CONTEXT_TOKENS = 4_096
DEFAULT_ANSWER_TOKENS = 16


class Reverse:
    """``reverse://``. Parameters: ``context_length``."""

    name = "reverse"
    fetches = False

    def describe(self, spec: ModelSpec, path: Path | None) -> ModelDescription:
        unknown = spec.parameters.keys() - {"context_length"}
        if unknown:
            raise InvalidRequest(
                f"The engine 'reverse' has no parameter '{min(unknown)}'.", param="parameters"
            )
        length = int(spec.parameters.get("context_length", DEFAULT_CONTEXT_TOKENS))
        return ModelDescription("chat", length, thoughts=True)

    async def start(self, spec: ModelSpec, path: Path | None, site: LaunchContext) -> RunningEngine:
        description = self.describe(spec, path)
        return RunningEngine(ReverseClient(spec.name, description.context_length or 0), description)


class ReverseClient:
    """A word is a token. A chat without words is answered with a default word."""

    def __init__(self, name: str, context_length: int) -> None:
        self._name = name
        self._context_length = context_length

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        body = request.body
        texts = [_text(message.get("content")) for message in body["messages"]]
        prompt = sum(len(text.split()) for text in texts)
        if prompt > self._context_length:
            raise InvalidRequest(
                f"The messages have {prompt} tokens, but '{self._name}' reads {self._context_length} at most.",
                code="context_length_exceeded",
                param="messages",
            )
        words, reason = _answer(texts[-1], body)
        usage = Usage(prompt, len(words))
        head = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": self._name}
        if not request.stream:
            return RelayResponse("application/json", _once(_document(head, words, reason, usage)), usage)
        reported_usage = usage if (body.get("stream_options") or {}).get("include_usage") else None
        return RelayResponse("text/event-stream", _stream(head, words, reason, reported_usage), usage)


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(part.get("text", "") for part in content)
    return content or ""


def _answer(text: str, body: dict[str, Any]) -> tuple[list[str], str]:
    """Return the words and the finish reason."""
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or DEFAULT_ANSWER_TOKENS
    stops = body.get("stop") or []
    stops = [stops] if isinstance(stops, str) else stops
    words: list[str] = []
    source: Iterator[str] = itertools.cycle(text.split()[::-1] or ["silence"])
    for word in itertools.islice(source, limit):
        if any(stop in " ".join([*words, word]) for stop in stops):
            return words, "stop"
        words.append(word)
    return words, "length"


def _usage(usage: Usage) -> dict[str, int]:
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _document(head: dict[str, Any], words: list[str], reason: str, usage: Usage) -> bytes:
    message = {"role": "assistant", "content": " ".join(words)}
    choice = {"index": 0, "message": message, "finish_reason": reason}
    document = {**head, "object": "chat.completion", "choices": [choice], "usage": _usage(usage)}
    return json.dumps(document).encode()


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _stream(
    head: dict[str, Any], words: list[str], reason: str, usage: Usage | None
) -> AsyncIterator[bytes]:
    def frame(*choices: dict[str, Any], **more: Any) -> bytes:
        chunk = {**head, "object": "chat.completion.chunk", "choices": choices, **more}
        return b"data: " + json.dumps(chunk).encode() + b"\n\n"

    def piece(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
        return {"index": 0, "delta": delta, "finish_reason": finish}

    yield frame(piece({"role": "assistant", "content": ""}))
    for number, word in enumerate(words):
        yield frame(piece({"content": f" {word}" if number else word}))
    yield frame(piece({}, reason))
    if usage is not None:
        yield frame(usage=_usage(usage))
    yield b"data: [DONE]\n\n"
