"""What an engine answers in the bytes of a chat, as the pieces that a response is made of. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import orjson

from portico_server.core.errors import EngineFailed


class Said(NamedTuple):
    """A piece of the answer, with what is known of its tokens."""

    text: str
    logprobs: list[dict[str, Any]] | None = None


class Refused(NamedTuple):
    """A piece of a refusal."""

    text: str


class Thought(NamedTuple):
    """A piece of the reasoning."""

    text: str


class Called(NamedTuple):
    """A piece of a call: ``id`` and ``name`` come once, then arguments alone."""

    key: int
    id: str
    name: str
    arguments: str


class Ended(NamedTuple):
    """Why the answer ends."""

    reason: str


class Counted(NamedTuple):
    """How many tokens of the answer were reasoning."""

    thoughts: int


Piece: TypeAlias = Said | Refused | Thought | Called | Ended | Counted


def pieces(chunk: bytes) -> list[Piece]:
    """The pieces in some frames of a stream; words that came together are one piece."""
    found: list[Piece] = []
    for line in chunk.split(b"\n"):
        if line[:5] != b"data:" or line[5:].strip() == b"[DONE]":
            continue
        _read(orjson.loads(line[5:]), "delta", found)
    return found


def whole(data: bytes) -> list[Piece]:
    """The pieces of an answer that came at once."""
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise EngineFailed("The engine answered something that is not JSON.") from error
    found: list[Piece] = []
    _read(document, "message", found)
    return found


def _read(document: Any, said: str, found: list[Piece]) -> None:
    for choice in document.get("choices") or ():
        if choice.get("index", 0) == 0:
            _message(choice.get(said) or {}, choice.get("logprobs"), found)
            if reason := choice.get("finish_reason"):
                found.append(Ended(reason))
    usage = document.get("usage")
    if usage:
        details = usage.get("completion_tokens_details") or {}
        if count := details.get("reasoning_tokens"):
            found.append(Counted(count))


def _message(message: dict[str, Any], logprobs: Any, found: list[Piece]) -> None:
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str) and thought:
        found.append(Thought(thought))
    if content := message.get("content"):
        known = _logprobs(logprobs["content"]) if logprobs and logprobs.get("content") else None
        last = found[-1] if found else None
        if type(last) is Said:
            found[-1] = Said(last.text + content, (last.logprobs or []) + known if known else last.logprobs)
        else:
            found.append(Said(content, known))
    if refusal := message.get("refusal"):
        found.append(Refused(refusal))
    for place, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function") or {}
        found.append(
            Called(
                call.get("index", place),
                call.get("id") or "",
                function.get("name") or "",
                function.get("arguments") or "",
            )
        )


def _logprobs(tokens: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every field that a response's log probabilities have; some engines leave the bytes out."""
    return [
        {**_logprob(token), "top_logprobs": [_logprob(other) for other in token.get("top_logprobs") or ()]}
        for token in tokens
    ]


def _logprob(token: dict[str, Any]) -> dict[str, Any]:
    known = token.get("bytes")
    return {
        "token": token["token"],
        "bytes": list(token["token"].encode()) if known is None else known,
        "logprob": token["logprob"],
    }
