"""The events of a streamed message: a state machine that takes values and emits frames. Pure.

Source: https://platform.claude.com/docs/en/build-with-claude/streaming.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import orjson

from portico.wire import Passage, Usage
from portico_server.core.dataclass import dataclass
from portico_server.core.ids import new_id
from portico_server.features.anthropic.answer import Head, citation, counts, thoughts_in

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
"""A keep-alive event. It may arrive at any time, even before the message begins."""

Kind: TypeAlias = Literal["text", "thinking", "tool_use"]

_EMPTY: Mapping[Kind, dict[str, Any]] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}


@dataclass(slots=True)
class _Call:
    """A tool call that the model is still writing.

    ``arguments``: the text written so far; ``sent_chars``: how many characters of ``arguments`` were sent;
    ``has_block``: whether the call's block has started.
    """

    number: str = ""
    name: str = ""
    arguments: str = ""
    sent_chars: int = 0
    has_block: bool = False

    @property
    def is_complete(self) -> bool:
        """Return whether the arguments are complete JSON, so that no more text follows."""
        try:
            orjson.loads(self.arguments)
        except orjson.JSONDecodeError:
            return False
        return True


class Stream:
    """The blocks of a message, sent one after another and numbered without gaps, in whatever order the engine writes
    them.

    The message starts with the first content; `end` must be the last call.
    """

    def __init__(self, head: Head) -> None:
        self._head = head
        self._has_started = False
        self._block = -1
        self._open: Kind | None = None
        self._calls: dict[int, _Call] = {}
        self._writing: int | None = None
        """Index of the call whose block is open."""
        self._finish: str | None = None
        self._stop_sequence: Any = None

    def chunk(self, document: Mapping[str, Any]) -> bytes:
        """Return the frames for one ``chat.completion.chunk``. Only its first choice is used."""
        frames = self._start()
        for choice in document.get("choices") or ():
            if choice.get("index", 0) == 0:
                frames += self._choice(choice)
        return frames

    def text(self, text: str) -> bytes:
        """Return the frames for a piece of the answer."""
        return self._piece("text", {"type": "text_delta", "text": text})

    def called(self, number: str, name: str, arguments: str) -> bytes:
        """Return the frames for a complete tool call."""
        part = {"id": number, "function": {"name": name, "arguments": arguments}}
        return self._part({**part, "index": len(self._calls)})

    def citation_frames(self, passages: Sequence[Passage]) -> bytes:
        """Return the frames for the passages that support the text."""
        return b"".join(
            self._piece("text", {"type": "citations_delta", "citation": citation(passage)})
            for passage in passages
        )

    def end(self, usage: Usage, finish: str | None = None) -> bytes:
        """Return the frames that end the message. Without ``finish``, the reason comes from the last chunk."""
        frames = self._start() + self._rest()
        if self._block < 0:
            # An answer without blocks would break clients that read the first block.
            frames += self._begin("text", _EMPTY["text"])
        frames += self._close()
        reason, hit = self._head.end(finish or self._finish, self._stop_sequence, is_called=bool(self._calls))
        frames += _frame(
            {
                "type": "message_delta",
                "delta": {"stop_reason": reason, "stop_sequence": hit},
                "usage": counts(usage),
            }
        )
        return frames + _frame({"type": "message_stop"})

    def _choice(self, choice: Mapping[str, Any]) -> bytes:
        delta = choice.get("delta") or {}
        frames = b""
        if thoughts := thoughts_in(delta):
            frames += self._piece("thinking", {"type": "thinking_delta", "thinking": thoughts})
        if text := delta.get("content") or delta.get("refusal"):
            frames += self.text(text)
        for part in delta.get("tool_calls") or ():
            frames += self._part(part)
        self._finish = choice.get("finish_reason") or self._finish
        self._stop_sequence = choice.get("stop_reason") or self._stop_sequence
        return frames

    def _piece(self, kind: Kind, delta: Mapping[str, Any]) -> bytes:
        """Return the frames for a piece of text or thoughts. The piece extends the open block if that block has the
        same kind.
        """
        frames = b"" if self._open == kind else self._begin(kind, _EMPTY[kind])
        return frames + self._delta(delta)

    def _part(self, part: Mapping[str, Any]) -> bytes:
        """Return the frames for a piece of a tool call."""
        index = part.get("index") or 0
        call = self._calls.setdefault(index, _Call())
        function = part.get("function") or {}
        call.number = call.number or part.get("id") or ""
        call.name = call.name or function.get("name") or ""
        call.arguments += function.get("arguments") or ""
        current = None if self._writing is None else self._calls[self._writing]
        if call is current:
            return self._arguments(call)
        # A closed block cannot be reopened, so the call whose block is open must be complete before another
        # call's block starts.
        if not call.name or call.has_block or (current is not None and not current.is_complete):
            return b""
        return self._use(index, call)

    def _use(self, index: int, call: _Call) -> bytes:
        block = {"type": "tool_use", "id": call.number or new_id("call_"), "name": call.name, "input": {}}
        frames = self._begin("tool_use", block)
        call.has_block, self._writing = True, index
        return frames + self._arguments(call)

    def _arguments(self, call: _Call) -> bytes:
        part, call.sent_chars = call.arguments[call.sent_chars :], len(call.arguments)
        return self._delta({"type": "input_json_delta", "partial_json": part}) if part else b""

    def _rest(self) -> bytes:
        """Return the frames for the calls that waited for another call to finish."""
        frames = b""
        for index, call in sorted(self._calls.items()):
            if not call.has_block:
                frames += self._use(index, call)
        return frames

    def _start(self) -> bytes:
        if self._has_started:
            return b""
        self._has_started = True
        # The engine counts the prompt only at the end. Clients show this number until then.
        message = self._head.message([], None, None, counts(Usage(self._head.prompt_tokens)))
        return _frame({"type": "message_start", "message": message})

    def _begin(self, kind: Kind, block: Mapping[str, Any]) -> bytes:
        frames = self._start() + self._close()
        self._open = kind
        self._block += 1
        return frames + _frame({"type": "content_block_start", "index": self._block, "content_block": block})

    def _delta(self, delta: Mapping[str, Any]) -> bytes:
        return _frame({"type": "content_block_delta", "index": self._block, "delta": delta})

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        self._open, self._writing = None, None
        return _frame({"type": "content_block_stop", "index": self._block})


def _frame(event: Mapping[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (event["type"].encode(), orjson.dumps(event))
