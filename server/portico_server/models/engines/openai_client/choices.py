"""The streamed calls behind one request, one per choice, and the OpenAI chunks and documents made of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import field
from typing import Any, Protocol

import orjson

from portico.wire import Usage
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError
from portico_server.core.ids import new_id
from portico_server.models.engines.openai_client.constrained_tools import ToolReader
from portico_server.models.engines.openai_client.requests import PreparedRequest
from portico_server.models.token_usage import usage_from_json, usage_to_json
from portico_server.models.transport import CONNECTION_ERRORS

# What llama.cpp streams, made into OpenAI's chunks and documents. Pure.


@dataclass(frozen=True, slots=True)
class ChoicePiece:
    """One step of one choice: what was added, and how it ended if it did.

    ``stopped_by``: the stop sequence that ended it, as vLLM reports it.
    """

    index: int
    delta: Mapping[str, Any]
    logprobs: Any = None
    finish_reason: str | None = None
    stopped_by: str = ""

    @property
    def stop(self) -> dict[str, str]:
        """The field of a choice that names it, if there is one."""
        return {"stop_reason": self.stopped_by} if self.stopped_by else {}


class ChoiceReader:
    """The frames of one call to the engine, read as one choice of the answer."""

    def __init__(self, index: int, prepared: PreparedRequest, *, chat: bool) -> None:
        self.index = index
        self.usage = Usage()
        self.finished = False
        self._chat = chat
        self._prepared = prepared
        self._stopped_by = ""
        self._tools = ToolReader(prepared.tools) if prepared.tools is not None else None

    def read(self, document: Mapping[str, Any]) -> list[ChoicePiece]:
        """What a chunk of the engine means."""
        usage = document.get("usage")
        if isinstance(usage, Mapping):
            self.usage = usage_from_json(usage)
        more = document.get("__verbose")
        if isinstance(more, Mapping):
            self._stopped_by = str(more.get("stopping_word") or "")
        pieces: list[ChoicePiece] = []
        for choice in document.get("choices") or ():
            pieces += self._choice(choice)
        return pieces

    def _choice(self, choice: Mapping[str, Any]) -> list[ChoicePiece]:
        delta = self._delta(choice)
        logprobs = choice.get("logprobs") if self._prepared.logprobs else None
        finish = choice.get("finish_reason")
        pieces: list[ChoicePiece] = []
        if self._tools is not None:
            pieces = [ChoicePiece(self.index, one) for one in self._tools.feed(delta.get("content") or "")]
            if finish == "stop" and self._tools.called:
                finish = "tool_calls"
        elif delta:
            tidy = _tidy(logprobs, self._prepared.top_logprobs) if logprobs else None
            pieces = [ChoicePiece(self.index, delta, tidy)]
        if finish:
            self.finished = True
            pieces.append(ChoicePiece(self.index, {}, None, finish, self._stopped_by))
        return pieces

    def _delta(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        if not self._chat:
            return {"content": choice["text"]} if choice.get("text") else {}
        delta = choice.get("delta") or {}
        # The role is said by us, once; a null says nothing.
        kept = {name: value for name, value in delta.items() if name != "role" and value is not None}
        for call in kept.get("tool_calls") or ():
            if call.get("id") is not None and not str(call["id"]).startswith("call_"):
                call["id"] = f"call_{call['id']}" if call["id"] else new_id("call_")
        return kept


def _tidy(logprobs: Mapping[str, Any], top: int) -> dict[str, Any]:
    """OpenAI's fields alone, and as many alternatives as were asked for."""

    def entry(value: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value[name] for name in ("token", "logprob", "bytes")}

    content = [
        {**entry(value), "top_logprobs": [entry(one) for one in (value.get("top_logprobs") or ())[:top]]}
        for value in logprobs.get("content") or ()
    ]
    return {"content": content, "refusal": None}


@dataclass(slots=True)
class ResponseEnvelope:
    """What is the same in every chunk of one answer."""

    chat: bool
    model: str
    fingerprint: str | None = None
    created: int = field(default_factory=lambda: int(time.time()))
    id: str = ""

    def __post_init__(self) -> None:
        self.id = new_id("chatcmpl-" if self.chat else "cmpl-")

    def head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }

    def opening(self, index: int) -> bytes:
        """The chunk that says who speaks."""
        return self.chunk(ChoicePiece(index, {"role": "assistant", "content": ""}))

    def chunk(self, piece: ChoicePiece) -> bytes:
        """A piece as a frame."""
        choice: dict[str, Any] = {"index": piece.index}
        if self.chat:
            choice["delta"] = piece.delta
            choice["logprobs"] = piece.logprobs
        else:
            choice["text"] = piece.delta.get("content", "")
            choice["logprobs"] = _legacy([piece.logprobs])
        choice |= {"finish_reason": piece.finish_reason, **piece.stop}
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return b"data: " + orjson.dumps({**self.head(kind), "choices": [choice]}) + b"\n\n"

    def usage(self, usage: Usage) -> bytes:
        """The last chunk, for those who asked."""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return (
            b"data: "
            + orjson.dumps({**self.head(kind), "choices": [], "usage": usage_to_json(usage)})
            + b"\n\n"
        )

    def document(self, pieces: Iterable[ChoicePiece], count: int, usage: Usage) -> bytes:
        """The whole answer at once."""
        by_choice: list[list[ChoicePiece]] = [[] for _ in range(count)]
        for piece in pieces:
            by_choice[piece.index].append(piece)
        choices = [self._whole(index, own) for index, own in enumerate(by_choice)]
        kind = "chat.completion" if self.chat else "text_completion"
        return orjson.dumps({**self.head(kind), "choices": choices, "usage": usage_to_json(usage)})

    def _whole(self, index: int, pieces: list[ChoicePiece]) -> dict[str, Any]:
        last = next((piece for piece in pieces if piece.finish_reason), ChoicePiece(index, {}, None, "stop"))
        end = {"finish_reason": last.finish_reason, **last.stop}
        parts = [piece.logprobs for piece in pieces if piece.logprobs]
        if not self.chat:
            text = "".join(piece.delta.get("content", "") for piece in pieces)
            return {"index": index, "text": text, "logprobs": _legacy(parts), **end}
        content = [entry for part in parts for entry in part["content"]]
        return {
            "index": index,
            "message": _message(pieces),
            "logprobs": {"content": content, "refusal": None} if parts else None,
            **end,
        }


def _message(pieces: Iterable[ChoicePiece]) -> dict[str, Any]:
    texts: dict[str, str] = {}
    calls: dict[int, dict[str, Any]] = {}
    for piece in pieces:
        for name, value in piece.delta.items():
            if isinstance(value, str):
                texts[name] = texts.get(name, "") + value
        for part in piece.delta.get("tool_calls") or ():
            call = calls.setdefault(
                part.get("index", 0),
                {"id": "", "type": "function", "function": {"name": "", "arguments": ""}},
            )
            call["id"] = part.get("id") or call["id"]
            function = part.get("function") or {}
            call["function"]["name"] += function.get("name") or ""
            call["function"]["arguments"] += function.get("arguments") or ""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if calls else "",
        "refusal": None,
        **texts,
    }
    if calls:
        message["tool_calls"] = [call for _, call in sorted(calls.items())]
    return message


def _legacy(parts: Iterable[Any]) -> dict[str, Any] | None:
    """Log-probabilities in the shape of the completions endpoint."""
    entries = [entry for part in parts if part for entry in part["content"]]
    if not entries:
        return None
    offsets, position = [], 0
    for entry in entries:
        offsets.append(position)
        position += len(entry["token"])
    return {
        "tokens": [entry["token"] for entry in entries],
        "token_logprobs": [entry["logprob"] for entry in entries],
        "top_logprobs": [
            {one["token"]: one["logprob"] for one in entry["top_logprobs"]} for entry in entries
        ],
        "text_offset": offsets,
    }


def total_usage(readers: list[ChoiceReader], per_prompt: int) -> Usage:
    """The tokens of all choices; a prompt that several choices share counts once."""
    firsts = readers[::per_prompt]
    return Usage(
        sum(reader.usage.prompt_tokens for reader in firsts),
        sum(reader.usage.completion_tokens for reader in readers),
        sum(reader.usage.cached_tokens for reader in firsts),
    )


class ChoiceServer(Protocol):
    """Who the calls go to."""

    async def open(
        self, operation: str, body: dict[str, Any], deadline: float | None
    ) -> AsyncIterator[bytes]:
        """Begin a streamed call: its frames. Raises `PorticoError`."""

    async def explain(self, error: BaseException) -> PorticoError:
        """What a broken connection means."""

    def failure(self, document: Mapping[str, Any]) -> PorticoError:
        """An error that came in the middle of a stream."""


class ChoiceCall:
    """One streamed call to the engine, read as one choice."""

    def __init__(
        self,
        server: ChoiceServer,
        operation: str,
        body: dict[str, Any],
        reader: ChoiceReader,
        deadline: float | None,
    ) -> None:
        self.reader = reader
        self._server = server
        self._operation = operation
        self._body = body
        self._deadline = deadline
        self._frames: AsyncIterator[bytes] | None = None
        self._first = b""

    async def open(self) -> None:
        """Wait for the first frame, so that an error before it is a real status."""
        self._frames = await self._server.open(self._operation, self._body, self._deadline)
        self._first = await self._next()

    async def _next(self) -> bytes:
        assert self._frames is not None
        try:
            return await anext(self._frames, b"")
        except CONNECTION_ERRORS as error:
            raise await self._server.explain(error) from error

    async def pieces(self) -> AsyncIterator[ChoicePiece]:
        """What the engine says, until it has said all."""
        data = self._first
        while data:
            for line in data.split(b"\n"):
                if not line.startswith((b"data:", b"error:")):
                    continue
                text = line.partition(b":")[2].strip()
                if text == b"[DONE]":
                    continue
                document = orjson.loads(text)
                if not isinstance(document, dict):
                    continue  # several prompts make it say "null"
                if "error" in document or line.startswith(b"error:"):
                    raise self._server.failure(document if "error" in document else {"error": document})
                for piece in self.reader.read(document):
                    yield piece
            data = await self._next()
        if not self.reader.finished:
            # A process that is killed may have its connection closed as if in order.
            raise await self._server.explain(ConnectionError("the answer broke off"))

    async def close(self) -> None:
        """Leave the call, which frees the engine's slot."""
        close = getattr(self._frames, "aclose", None)
        if close is not None:
            await close()


class ChoiceCalls:
    """The calls for all choices of one request, together."""

    def __init__(self, calls: list[ChoiceCall]) -> None:
        self._calls = calls
        self._tasks: list[asyncio.Task[None]] = []

    def usage(self, prepared: PreparedRequest) -> Usage:
        return total_usage([call.reader for call in self._calls], prepared.per_prompt)

    async def open(self) -> None:
        if len(self._calls) == 1:
            await self._calls[0].open()
            return
        openings = [asyncio.create_task(call.open(), name="open a choice") for call in self._calls]
        try:
            await asyncio.gather(*openings)
        finally:
            for opening in openings:
                opening.cancel()
            await asyncio.wait(openings)

    async def pieces(self) -> AsyncIterator[ChoicePiece]:
        """The pieces of all choices, as they come."""
        if len(self._calls) == 1:
            async for piece in self._calls[0].pieces():
                yield piece
            return
        queue: asyncio.Queue[ChoicePiece | BaseException | None] = asyncio.Queue(maxsize=64)
        self._tasks = [
            asyncio.create_task(_follow(call, queue), name=f"choice {call.reader.index}")
            for call in self._calls
        ]
        living = len(self._tasks)
        while living:
            item = await queue.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                living -= 1
            else:
                yield item

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for call in self._calls:
            await call.close()


async def _follow(call: ChoiceCall, queue: asyncio.Queue[ChoicePiece | BaseException | None]) -> None:
    """Pass on what a call says, then that it has ended, or why."""
    try:
        async for piece in call.pieces():
            await queue.put(piece)
    except PorticoError as error:
        await queue.put(error)
    else:
        await queue.put(None)
