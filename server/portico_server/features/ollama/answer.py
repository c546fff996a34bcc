"""Answers in Ollama's format: JSON lines for a stream, or one JSON document."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson

from portico.wire import Delta, Usage
from portico_server.api.errors import RawHeaders
from portico_server.api.exchange import Exchange, close_source
from portico_server.api.openai.relay import caller_of
from portico_server.api.services import ApiServices
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import EngineFailed, PorticoError
from portico_server.core.principal import Principal
from portico_server.core.relay import Relay
from portico_server.core.request import Chat, ChatReply
from portico_server.core.servable import Relays
from portico_server.features.anthropic.answer import thoughts_in

NDJSON: Final[RawHeaders] = [(b"content-type", b"application/x-ndjson")]


@dataclass(slots=True)
class OllamaAnswer:
    """An answer while it arrives: its tool calls, its finish reason, and its usage."""

    model: str
    start_time: float = field(default_factory=time.perf_counter)
    first: float | None = None
    calls: dict[int, dict[str, str]] = field(default_factory=dict)
    finish: str = "stop"
    usage: Usage = Usage()

    def head(self) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        return {"model": self.model, "created_at": now}

    def add_calls(self, parts: Sequence[Mapping[str, Any]]) -> None:
        for part in parts:
            call = self.calls.setdefault(part.get("index") or 0, {"name": "", "arguments": ""})
            function = part.get("function") or {}
            call["name"] += function.get("name") or ""
            call["arguments"] += function.get("arguments") or ""

    def called(self) -> list[dict[str, Any]]:
        """Return the tool calls. Their arguments are objects, as Ollama's API requires.

        A call whose arguments are not an object, for example because the answer was cut off, is left out: the client
        would call the tool without them.
        """
        return [
            {"function": {"name": call["name"], "arguments": arguments}}
            for _index, call in sorted(self.calls.items())
            if (arguments := _arguments(call["arguments"])) is not None
        ]

    def end(self) -> dict[str, Any]:
        """Return the finish reason, the token counts, and the durations in nanoseconds."""
        now = time.perf_counter()
        first = self.first or now
        return {
            "done": True,
            "done_reason": self.finish if self.finish in ("length", "content_filter") else "stop",
            "total_duration": int((now - self.start_time) * 1e9),
            "load_duration": 0,
            "prompt_eval_count": self.usage.prompt_tokens,
            "prompt_eval_duration": int((first - self.start_time) * 1e9),
            "eval_count": self.usage.completion_tokens,
            "eval_duration": int((now - first) * 1e9),
        }


def _arguments(text: str) -> dict[str, Any] | None:
    try:
        arguments = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return None
    return arguments if isinstance(arguments, dict) else None


class Piece(NamedTuple):
    """A piece of an answer: text, thoughts, and the log-probabilities of its tokens in OpenAI's format, which is also
    Ollama's.
    """

    text: str
    thoughts: str = ""
    logprobs: Sequence[Mapping[str, Any]] = ()


async def pieces_of_model(
    exchange: Exchange, services: ApiServices, servable: Relays, body: dict[str, Any], answer: OllamaAnswer
) -> AsyncGenerator[Piece, None]:
    """Yield a model's answer as it arrives. Tool calls, the finish reason and the token counts are recorded in
    ``answer``.
    """
    operation: Any = "completions" if "prompt" in body else "chat/completions"
    relay_response = await services.runner.relay(
        servable, body["model"], Relay(operation, body), caller_of(exchange)
    )
    exchange.name_unenforced(relay_response.unenforced)
    if relay_response.answered_by:
        answer.model = relay_response.answered_by
    try:
        async for chunk in relay_response.chunks:
            for line in chunk.split(b"\n"):
                data = line.removeprefix(b"data:").strip()
                if line.startswith(b"data:") and data != b"[DONE]":
                    for choice in parsed_answer(data).get("choices") or ():
                        delta = choice.get("delta") or {"content": choice.get("text")}
                        answer.add_calls(delta.get("tool_calls") or ())
                        answer.finish = choice.get("finish_reason") or answer.finish
                        text = delta.get("content") or delta.get("refusal") or ""
                        tokens = (choice.get("logprobs") or {}).get("content") or ()
                        yield Piece(text, thoughts_in(delta), tokens)
    finally:
        await close_source(relay_response.chunks)
        answer.usage = relay_response.usage


async def pieces_of_app(
    services: ApiServices, name: str, body: Mapping[str, Any], caller: Principal, answer: OllamaAnswer
) -> AsyncGenerator[Piece, None]:
    """Yield an app's answer as `pieces_of_model` does."""
    options = {
        key: value
        for key, value in body.items()
        if key not in ("model", "messages", "stream", "stream_options")
    }
    run = await services.runner.start(
        "chat/completions", name, Chat(tuple(body["messages"]), options), caller
    )
    has_started = False
    try:
        async for _number, event in run.log.follow():
            if isinstance(event, Delta) and event.text:
                has_started = True
                yield Piece(event.text)
        reply = await services.runner.wait(run)
        if not isinstance(reply, ChatReply):
            raise PorticoError(f"'{name}' did not answer the conversation with a chat reply.")
        if not has_started:
            yield Piece(reply.content)
        for index, call in enumerate(reply.tool_calls):
            answer.calls[index] = {"name": call.name, "arguments": call.arguments}
        answer.finish, answer.usage = reply.finish_reason, reply.usage
    finally:
        await run.leave()


def parsed_answer(data: bytes) -> Any:
    """Parse a model's answer as JSON. Raise `EngineFailed` if it is not valid."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise EngineFailed("The model's answer is not valid JSON.") from error


Write = Callable[[str, str, list[dict[str, Any]]], dict[str, Any]]
"""Converts text, thoughts and tool calls to the fields of a line."""


def chat_fields(text: str, thoughts: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the fields of a line at ``/api/chat``."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if thoughts:
        message["thinking"] = thoughts
    if calls:
        message["tool_calls"] = calls
    return {"message": message}


def generate_fields(text: str, thoughts: str, _calls: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the fields of a line at ``/api/generate``."""
    return {"response": text, **({"thinking": thoughts} if thoughts else {})}


async def answer_lines(
    pieces: AsyncGenerator[Piece, None], answer: OllamaAnswer, write: Write
) -> AsyncIterator[bytes]:
    """Yield the lines of an answer. The last line reports how the answer ended."""
    async with aclosing(pieces):
        async for piece in pieces:
            if piece.text or piece.thoughts or piece.logprobs:
                answer.first = answer.first or time.perf_counter()
                fields = {**write(piece.text, piece.thoughts, []), **logprob_fields(piece.logprobs)}
                yield json_line({**answer.head(), **fields, "done": False})
    if calls := answer.called():
        yield json_line({**answer.head(), **write("", "", calls), "done": False})
    yield json_line({**answer.head(), **write("", "", []), **answer.end()})


def logprob_fields(tokens: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the field with the log-probabilities of a line, or nothing if the model returned none."""
    return {"logprobs": tokens} if tokens else {}


def json_line(document: Mapping[str, Any]) -> bytes:
    """Return a document as a line."""
    return orjson.dumps(document) + b"\n"
