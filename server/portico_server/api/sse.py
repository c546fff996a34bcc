"""Server-sent events as the answer of a FastAPI endpoint, carried by the same `Exchange` as the hot path."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import TypeVar

import orjson
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from portico.wire import Event, event_to_json
from portico_server.api.exchange import Exchange, Presence

T = TypeVar("T")


def event_frame(number: int, event: Event) -> bytes:
    """A wire event with its number, so that a client can come back with ``Last-Event-ID``."""
    return frame(number, event.type, event_to_json(event))


def frame(number: int, kind: str, document: Mapping[str, object]) -> bytes:
    """One numbered event of the native API."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), orjson.dumps(document))


class EventStream(Response):
    """Sends frames as they come. If the client leaves, the generator of the frames is closed."""

    media_type = "text/event-stream"

    def __init__(
        self, frames: AsyncIterator[bytes], headers: Mapping[str, str] | None = None, status_code: int = 200
    ) -> None:
        self._frames = frames
        self._more = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        self.background: BackgroundTask | None = None
        self.status_code = status_code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope["portico.exchange"]
        exchange.extra.extend(self._more)
        await exchange.stream(self._frames)


async def while_present(request: Request, work: Awaitable[T]) -> T:
    """The result of ``work``, cancelled if the client leaves."""
    exchange: Exchange = request.scope["portico.exchange"]
    with Presence(exchange):
        return await work
    raise AssertionError  # `Presence` raised `ClientLeft`
