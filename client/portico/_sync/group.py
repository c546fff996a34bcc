# Made from portico/_async by scripts/twin: change it there.
"""What the groups of calls have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from portico._keywords import exact_methods
from portico._sse import EventReader
from portico._transport import Transport
from portico.errors import ConnectionLost

T = TypeVar("T")

MAX_ATTEMPTS = 5
"""Connections in a row that may bring nothing new."""


class Group:
    """Calls about one noun."""

    def __init_subclass__(cls) -> None:
        exact_methods(cls)

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _follow(self, path: str, reader: EventReader[T]) -> Iterator[T]:
        """The events of a stream to its end, through lost connections: it continues behind the last one that came."""
        lost = 0
        while not reader.done:
            headers = {"last-event-id": str(reader.last)} if reader.last else {}
            try:
                for item in self._transport.stream("GET", path, reader, headers=headers):
                    lost = 0
                    yield item
            except ConnectionLost:
                lost += 1
                if lost == MAX_ATTEMPTS:
                    raise
                self._transport.sleep(0.1 * 2.0**lost)
