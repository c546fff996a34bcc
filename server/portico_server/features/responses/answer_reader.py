"""Reads a model's answer piece by piece: determines which events the client receives immediately, and which calls the
daemon must make.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field

from portico_server.core.dataclass import dataclass
from portico_server.core.ids import new_id
from portico_server.core.request import CalledTool
from portico_server.features.responses.event_builder import EventBuilder
from portico_server.features.responses.open_items import Event
from portico_server.features.responses.stream_reader import (
    CallPiece,
    CountPiece,
    EndPiece,
    Piece,
    RefusalPiece,
    TextPiece,
    ThoughtPiece,
)


@dataclass(slots=True)
class _OpenCall:
    id: str = ""
    name: str = ""
    arguments: str = ""
    shown: bool = False


@dataclass(slots=True)
class AnswerReader:
    """Reads a model's answer piece by piece.

    ``hosted`` are the names of the functions that the daemon calls. All other functions belong to the client.
    ``namespaces`` maps the name that the model uses for a function to the function's namespace and name.
    """

    machine: EventBuilder
    hosted: Collection[str] = ()
    namespaces: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    reason: str = "stop"
    thoughts: int = 0
    _calls: dict[int, _OpenCall] = field(default_factory=dict)

    def hear(self, piece: Piece) -> list[Event]:
        """Return the events that the client receives because of a piece."""
        match piece:
            case TextPiece(text, logprobs):
                return self.machine.text(text, logprobs)
            case CallPiece():
                return self._call(piece)
            case ThoughtPiece(text):
                return self.machine.add_reasoning(text)
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
        # Some models give calls no id, or give all calls the same id.
        is_taken = any(open_call.id == call.id for open_call in self._calls.values() if open_call is not call)
        if is_taken or not call.id:
            call.id = new_id("call_")
        namespace, name = self.namespaces.get(call.name, ("", call.name))
        events = self.machine.call(piece.key, call.id, name, namespace)
        return [*events, *self.machine.arguments(piece.key, call.arguments)] if call.arguments else events

    @property
    def daemon_calls(self) -> list[CalledTool]:
        """Return the calls that the daemon must make, in order."""
        open_calls = sorted(self._calls.items())
        return [CalledTool(call.id, call.name, call.arguments) for _key, call in open_calls if not call.shown]

    @property
    def asks_client(self) -> bool:
        """Return whether the client must make a call before the model continues."""
        return any(call.shown for call in self._calls.values())
