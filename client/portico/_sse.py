"""Server-sent events, decoded without I/O (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

Item = TypeVar("Item", covariant=True)


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """A received event. ``event`` is ``message`` unless the event has a name. ``id`` is the latest id that the stream
    has sent, empty before the first.
    """

    data: str
    event: str = "message"
    id: str = ""


class Decoder:
    """Decodes bytes into complete events. As the specification requires, comments and an incomplete last event are
    dropped.
    """

    def __init__(self) -> None:
        self._text = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._rest = ""
        self._data: list[str] = []
        self._event = ""
        self._id = ""

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """Return the events that ``chunk`` completes, in order."""
        text = self._rest + self._text.decode(chunk)
        # A carriage return at the end may be the first half of a line ending.
        held_text = "\r" if text.endswith("\r") else ""
        lines = (text[: len(text) - len(held_text)]).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._rest = lines.pop() + held_text
        return [event for line in lines if (event := self._line(line)) is not None]

    def _line(self, line: str) -> ServerEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None

    def _dispatch(self) -> ServerEvent | None:
        data, event = self._data, self._event
        self._data, self._event = [], ""
        return ServerEvent("\n".join(data), event or "message", self._id) if data else None


class EventReader(Protocol[Item]):
    """Converts server-sent events to typed items.

    ``done``: the final event of the stream has arrived. ``last``: the number of the event after which to continue an
    interrupted stream; 0 starts from the beginning.
    """

    done: bool
    last: int

    def feed(self, item: ServerEvent) -> Sequence[Item]: ...
