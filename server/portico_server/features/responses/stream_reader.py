"""Parsing of an engine's chat answer into pieces, from which a response is built. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import orjson

from portico_server.core.errors import EngineFailed


class TextPiece(NamedTuple):
    """A piece of the answer, with the log probabilities of its tokens if they are known."""

    text: str
    logprobs: list[dict[str, Any]] | None = None


class RefusalPiece(NamedTuple):
    """A piece of a refusal."""

    text: str


class ThoughtPiece(NamedTuple):
    """A piece of the reasoning."""

    text: str


class CallPiece(NamedTuple):
    """A piece of a call: the first piece of each call has ``id`` and ``name``, and the arguments follow."""

    key: int
    id: str
    name: str
    arguments: str


class EndPiece(NamedTuple):
    """The reason why the answer ends."""

    reason: str


class CountPiece(NamedTuple):
    """The number of reasoning tokens in the answer."""

    thoughts: int


Piece: TypeAlias = TextPiece | RefusalPiece | ThoughtPiece | CallPiece | EndPiece | CountPiece


def pieces(chunk: bytes) -> list[Piece]:
    """Return the pieces in a part of a stream; consecutive text becomes one piece."""
    found_pieces: list[Piece] = []
    for line in chunk.split(b"\n"):
        if line[:5] != b"data:" or line[5:].strip() == b"[DONE]":
            continue
        _read(orjson.loads(line[5:]), "delta", found_pieces)
    return found_pieces


def read_whole(data: bytes) -> list[Piece]:
    """Return the pieces of an answer that was not streamed."""
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise EngineFailed("The engine returned invalid JSON.") from error
    found_pieces: list[Piece] = []
    _read(document, "message", found_pieces)
    return found_pieces


def _read(document: Any, field: str, found_pieces: list[Piece]) -> None:
    for choice in document.get("choices") or ():
        if choice.get("index", 0) == 0:
            _message(choice.get(field) or {}, choice.get("logprobs"), found_pieces)
            if reason := choice.get("finish_reason"):
                found_pieces.append(EndPiece(reason))
    usage = document.get("usage")
    if usage:
        details = usage.get("completion_tokens_details") or {}
        if count := details.get("reasoning_tokens"):
            found_pieces.append(CountPiece(count))


def _message(message: dict[str, Any], logprobs: Any, found_pieces: list[Piece]) -> None:
    thought_text = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought_text, str) and thought_text:
        found_pieces.append(ThoughtPiece(thought_text))
    if content := message.get("content"):
        token_logprobs = _logprobs(logprobs["content"]) if logprobs and logprobs.get("content") else None
        last = found_pieces[-1] if found_pieces else None
        if type(last) is TextPiece:
            found_pieces[-1] = TextPiece(
                last.text + content,
                (last.logprobs or []) + token_logprobs if token_logprobs else last.logprobs,
            )
        else:
            found_pieces.append(TextPiece(content, token_logprobs))
    if refusal := message.get("refusal"):
        found_pieces.append(RefusalPiece(refusal))
    for place, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function") or {}
        found_pieces.append(
            CallPiece(
                call.get("index", place),
                call.get("id") or "",
                function.get("name") or "",
                function.get("arguments") or "",
            )
        )


def _logprobs(tokens: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the log probabilities with every field of OpenAI's format; some engines leave out the bytes."""
    return [
        {
            **_logprob(token),
            "top_logprobs": [_logprob(alternative) for alternative in token.get("top_logprobs") or ()],
        }
        for token in tokens
    ]


def _logprob(token: dict[str, Any]) -> dict[str, Any]:
    token_bytes = token.get("bytes")
    return {
        "token": token["token"],
        "bytes": list(token["token"].encode()) if token_bytes is None else token_bytes,
        "logprob": token["logprob"],
    }
