"""One answer of a model, heard piece by piece: what the client is told at once, and what is left to do here."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from portico_server.apps.respond.machine import Event, Machine
from portico_server.apps.respond.pieces import Called, Counted, Ended, Piece, Refused, Said, Thought
from portico_server.core.ids import new_id
from portico_server.core.request import CalledTool


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: str = ""
    shown: bool = False


@dataclass(slots=True)
class Hearing:
    """``hosted``: names of functions that are called here. All others are the client's."""

    machine: Machine
    hosted: Collection[str] = ()
    reason: str = "stop"
    thoughts: int = 0
    _calls: dict[int, _Call] = field(default_factory=dict)

    def hear(self, piece: Piece) -> list[Event]:
        """What the client is told of it."""
        match piece:
            case Said(text, logprobs):
                return self.machine.text(text, logprobs)
            case Called():
                return self._call(piece)
            case Thought(text):
                return self.machine.thought(text)
            case Refused(text):
                return self.machine.refusal(text)
            case Ended(reason):
                self.reason = reason
            case Counted(thoughts):
                self.thoughts = thoughts
        return []

    def _call(self, piece: Called) -> list[Event]:
        call = self._calls.setdefault(piece.key, _Call())
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
        events = self.machine.call(piece.key, call.id, call.name)
        return [*events, *self.machine.arguments(piece.key, call.arguments)] if call.arguments else events

    @property
    def here(self) -> list[CalledTool]:
        """The calls that are to be done here, in order."""
        found = sorted(self._calls.items())
        return [CalledTool(call.id, call.name, call.arguments) for _key, call in found if not call.shown]

    @property
    def asks_client(self) -> bool:
        """Whether the client has to call something before the model goes on."""
        return any(call.shown for call in self._calls.values())
