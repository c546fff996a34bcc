"""Converts llama.cpp's stream to OpenAI's chunks and documents. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any

import orjson

from portico.wire import Usage
from portico_server.core.dataclass import dataclass
from portico_server.core.ids import new_id
from portico_server.models.engines.openai_client.constrained_tools import ToolReader
from portico_server.models.engines.openai_client.requests import PreparedRequest
from portico_server.models.token_usage import usage_from_json, usage_to_json


@dataclass(frozen=True, slots=True)
class ChoicePiece:
    """One step of one choice: the new text, and the finish reason if the choice has ended.

    ``stopped_by`` is the stop sequence that ended the choice, which vLLM reports, or ``repetition``.
    """

    index: int
    delta: Mapping[str, Any]
    logprobs: Any = None
    finish_reason: str | None = None
    stopped_by: str = ""

    @property
    def stop(self) -> dict[str, str]:
        """Return the field of a choice that contains the stop sequence, if a stop sequence ended the choice."""
        return {"stop_reason": self.stopped_by} if self.stopped_by else {}


class ChoiceReader:
    """A reader that converts the frames of one engine call to one choice of the answer."""

    def __init__(self, index: int, request: PreparedRequest, *, chat: bool) -> None:
        self.index = index
        self.usage = Usage()
        self.finished = False
        self._chat = chat
        self._prepared = request
        self._stopped_by = ""
        self._tools = ToolReader(request.tools) if request.tools is not None else None

    def read(self, document: Mapping[str, Any]) -> list[ChoicePiece]:
        """Return the pieces in a chunk from the engine."""
        usage = document.get("usage")
        if isinstance(usage, Mapping):
            self.usage = usage_from_json(usage)
        verbose = document.get("__verbose")
        if isinstance(verbose, Mapping):
            self._stopped_by = str(verbose.get("stopping_word") or "")
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
            pieces = [
                ChoicePiece(self.index, delta_part)
                for delta_part in self._tools.feed(delta.get("content") or "")
            ]
            if finish == "stop" and self._tools.called:
                finish = "tool_calls"
        elif delta or logprobs:
            tidy = _tidy(logprobs, self._prepared.top_logprobs) if logprobs else None
            pieces = [ChoicePiece(self.index, delta, tidy)]
        if finish:
            self.finished = True
            stopped_by = choice.get("stop_reason") or self._stopped_by
            pieces.append(ChoicePiece(self.index, {}, None, finish, stopped_by))
        return pieces

    def _delta(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        if not self._chat:
            return {"content": choice["text"]} if choice.get("text") else {}
        delta = choice.get("delta") or {}
        # The role is left out, because Portico sends it once itself. A null carries no information.
        kept_fields = {name: value for name, value in delta.items() if name != "role" and value is not None}
        for call in kept_fields.get("tool_calls") or ():
            if call.get("id") is not None and not str(call["id"]).startswith("call_"):
                call["id"] = f"call_{call['id']}" if call["id"] else new_id("call_")
        return kept_fields


def _tidy(logprobs: Mapping[str, Any], top: int) -> dict[str, Any]:
    """Return log-probabilities with only OpenAI's fields, and with as many alternatives as were requested."""

    def entry(value: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value[name] for name in ("token", "logprob", "bytes")}

    content = [
        {
            **entry(value),
            "top_logprobs": [entry(alternative) for alternative in (value.get("top_logprobs") or ())[:top]],
        }
        for value in logprobs.get("content") or ()
    ]
    return {"content": content, "refusal": None}


@dataclass(slots=True)
class ResponseEnvelope:
    """The fields that all chunks of one answer have in common."""

    chat: bool
    model: str
    fingerprint: str | None = None
    created: int = field(default_factory=lambda: int(time.time()))
    id: str = ""
    _sent_chars: dict[int, int] = field(default_factory=dict)
    """Maps the index of a choice of a completion to the length of the text that its chunks contain."""

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
        """Return the first chunk of a choice, which contains the role."""
        return self.chunk(ChoicePiece(index, {"role": "assistant", "content": ""}))

    def chunk(self, piece: ChoicePiece) -> bytes:
        """Return a piece as a frame."""
        choice: dict[str, Any] = {"index": piece.index}
        if self.chat:
            choice["delta"] = piece.delta
            choice["logprobs"] = piece.logprobs
        else:
            sent_chars = self._sent_chars.get(piece.index, 0)
            choice["text"] = piece.delta.get("content", "")
            choice["logprobs"] = _legacy([piece], sent_chars)
            self._sent_chars[piece.index] = sent_chars + len(choice["text"])
        choice |= {"finish_reason": piece.finish_reason, **piece.stop}
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return b"data: " + orjson.dumps({**self.head(kind), "choices": [choice]}) + b"\n\n"

    def usage(self, usage: Usage) -> bytes:
        """Return the last chunk, which contains the usage, for clients that requested it."""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return (
            b"data: "
            + orjson.dumps({**self.head(kind), "choices": [], "usage": usage_to_json(usage)})
            + b"\n\n"
        )

    def document(self, pieces: Iterable[ChoicePiece], count: int, usage: Usage) -> bytes:
        """Return the whole answer as one JSON document."""
        by_choice: list[list[ChoicePiece]] = [[] for _ in range(count)]
        for piece in pieces:
            by_choice[piece.index].append(piece)
        choices = [self._chunk(index, choice_pieces) for index, choice_pieces in enumerate(by_choice)]
        kind = "chat.completion" if self.chat else "text_completion"
        return orjson.dumps({**self.head(kind), "choices": choices, "usage": usage_to_json(usage)})

    def _chunk(self, index: int, pieces: list[ChoicePiece]) -> dict[str, Any]:
        last = next((piece for piece in pieces if piece.finish_reason), ChoicePiece(index, {}, None, "stop"))
        end = {"finish_reason": last.finish_reason, **last.stop}
        if not self.chat:
            text = "".join(piece.delta.get("content", "") for piece in pieces)
            return {"index": index, "text": text, "logprobs": _legacy(pieces), **end}
        parts = [piece.logprobs for piece in pieces if piece.logprobs]
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


def _legacy(pieces: Iterable[ChoicePiece], sent_chars: int = 0) -> dict[str, Any] | None:
    """Return log-probabilities in the format of the completions endpoint.

    ``sent_chars`` is the length of the text before ``pieces``. The alternatives include the chosen token. The first
    token of an echoed prompt has no log-probability.
    """
    entries: list[Mapping[str, Any]] = []
    offsets: list[int] = []
    for piece in pieces:
        offset = sent_chars
        for entry in (piece.logprobs or {}).get("content", ()):
            entries.append(entry)
            offsets.append(offset)
            offset += len(entry["token"])
        sent_chars += len(piece.delta.get("content", ""))
    if not entries:
        return None
    return {
        "tokens": [_token_text(entry) for entry in entries],
        "token_logprobs": [entry["logprob"] for entry in entries],
        "top_logprobs": [
            None
            if entry["logprob"] is None
            else {_token_text(value): value["logprob"] for value in (*entry["top_logprobs"], entry)}
            for entry in entries
        ],
        "text_offset": offsets,
    }


def _token_text(entry: Mapping[str, Any]) -> str:
    """Return a token's text. Bytes that are only a part of a character are spelled as OpenAI spells them."""
    try:
        return bytes(entry["bytes"] or b"").decode() or str(entry["token"])
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in entry["bytes"])


def total_usage(readers: list[ChoiceReader], per_prompt: int) -> Usage:
    """Return the total tokens of all choices. A prompt that several choices share counts once."""
    firsts = readers[::per_prompt]
    return Usage(
        sum(reader.usage.prompt_tokens for reader in firsts),
        sum(reader.usage.completion_tokens for reader in readers),
        sum(reader.usage.cached_tokens for reader in firsts),
    )
