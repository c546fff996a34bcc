"""What an engine answers in the bytes of a chat, as the pieces that a response is made of. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field
from typing import Any, NamedTuple, TypeAlias

import orjson

from portico_server.apps.responses.event_builder import EventBuilder
from portico_server.apps.responses.open_items import Event
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import EngineFailed
from portico_server.core.ids import new_id
from portico_server.core.request import CalledTool


class TextPiece(NamedTuple):
    """A piece of the answer, with what is known of its tokens."""

    text: str
    logprobs: list[dict[str, Any]] | None = None


class RefusalPiece(NamedTuple):
    """A piece of a refusal."""

    text: str


class ThoughtPiece(NamedTuple):
    """A piece of the reasoning."""

    text: str


class CallPiece(NamedTuple):
    """A piece of a call: ``id`` and ``name`` come once, then arguments alone."""

    key: int
    id: str
    name: str
    arguments: str


class EndPiece(NamedTuple):
    """Why the answer ends."""

    reason: str


class CountPiece(NamedTuple):
    """How many tokens of the answer were reasoning."""

    thoughts: int


Piece: TypeAlias = TextPiece | RefusalPiece | ThoughtPiece | CallPiece | EndPiece | CountPiece


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


def _read(document: Any, field: str, found: list[Piece]) -> None:
    for choice in document.get("choices") or ():
        if choice.get("index", 0) == 0:
            _message(choice.get(field) or {}, choice.get("logprobs"), found)
            if reason := choice.get("finish_reason"):
                found.append(EndPiece(reason))
    usage = document.get("usage")
    if usage:
        details = usage.get("completion_tokens_details") or {}
        if count := details.get("reasoning_tokens"):
            found.append(CountPiece(count))


def _message(message: dict[str, Any], logprobs: Any, found: list[Piece]) -> None:
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str) and thought:
        found.append(ThoughtPiece(thought))
    if content := message.get("content"):
        known = _logprobs(logprobs["content"]) if logprobs and logprobs.get("content") else None
        last = found[-1] if found else None
        if type(last) is TextPiece:
            found[-1] = TextPiece(
                last.text + content, (last.logprobs or []) + known if known else last.logprobs
            )
        else:
            found.append(TextPiece(content, known))
    if refusal := message.get("refusal"):
        found.append(RefusalPiece(refusal))
    for place, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function") or {}
        found.append(
            CallPiece(
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


# One answer of a model, heard piece by piece: what the client is told at once, and what is left to do here.


@dataclass(slots=True)
class _OpenCall:
    id: str = ""
    name: str = ""
    arguments: str = ""
    shown: bool = False


@dataclass(slots=True)
class AnswerReader:
    """``hosted``: names of functions that are called here. All others are the client's: ``namespaces`` has the
    namespace and the name of those that the model calls otherwise.
    """

    machine: EventBuilder
    hosted: Collection[str] = ()
    namespaces: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    reason: str = "stop"
    thoughts: int = 0
    _calls: dict[int, _OpenCall] = field(default_factory=dict)

    def hear(self, piece: Piece) -> list[Event]:
        """What the client is told of it."""
        match piece:
            case TextPiece(text, logprobs):
                return self.machine.text(text, logprobs)
            case CallPiece():
                return self._call(piece)
            case ThoughtPiece(text):
                return self.machine.thought(text)
            case RefusalPiece(text):
                return self.machine.refusal(text)
            case EndPiece(reason):
                self.reason = reason
            case CountPiece(thoughts):
                self.thoughts = thoughts
        return []

    def _call(self, piece: CallPiece) -> list[Event]:
        call = self._calls.setdefault(piece.key, _OpenCall())
        call.id = call.id or piece.id
        call.name = call.name or piece.name
        call.arguments += piece.arguments
        if not call.name or call.name in self.hosted:
            return []
        if call.shown:
            return self.machine.arguments(piece.key, piece.arguments) if piece.arguments else []
        call.shown = True
        # Some models give no id, or one to all.
        taken = any(other.id == call.id for other in self._calls.values() if other is not call)
        if taken or not call.id:
            call.id = new_id("call_")
        namespace, name = self.namespaces.get(call.name, ("", call.name))
        events = self.machine.call(piece.key, call.id, name, namespace)
        return [*events, *self.machine.arguments(piece.key, call.arguments)] if call.arguments else events

    @property
    def here(self) -> list[CalledTool]:
        """The calls that are to be done here, in order."""
        found = sorted(self._calls.items())
        return [CalledTool(call.id, call.name, call.arguments) for _key, call in found if not call.shown]

    @property
    def asks_client(self) -> bool:
        """Whether the client has to call something before the model continues."""
        return any(call.shown for call in self._calls.values())
