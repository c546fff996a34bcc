"""Server-sent events as the response of a FastAPI endpoint; handlers on the hot path use `Exchange.stream` instead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import TypeVar

import orjson
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from portico.wire import Event, Failed, event_to_json
from portico_server.api.exchange import KEEPALIVE_INTERVAL_S, Exchange, Presence, ending_in_errors
from portico_server.core.event import ENDINGS
from portico_server.runs.run import Run
from portico_server.runs.runner import Runner

T = TypeVar("T")

LINE_END = "\n"


def event_frame(number: int, event: Event) -> bytes:
    """Return an event as a frame with its number, so that a client can resume with ``Last-Event-ID``."""
    return frame(number, event.type, event_to_json(event))


def frame(number: int, kind: str, document: Mapping[str, object]) -> bytes:
    """Return one numbered event in the format of the native API."""
    return ServerSentEvent(orjson.dumps(document).decode(), event=kind, id=str(number), sep=LINE_END).encode()


class EventStream(EventSourceResponse):
    """Sends frames as they arrive, each with one or more events. If the client leaves, the frame generator is closed.

    The response head is sent with the first frame, or with the first comment while the stream is quiet, so an error
    before then keeps its HTTP status. A later error becomes the last frame.
    """

    media_type = "text/event-stream"

    def __init__(
        self, frames: AsyncIterator[bytes], headers: Mapping[str, str] | None = None, status_code: int = 200
    ) -> None:
        super().__init__(
            frames,
            status_code,
            headers={"cache-control": "no-cache", **(headers or {})},
            ping=KEEPALIVE_INTERVAL_S,
            ping_message_factory=lambda: ServerSentEvent(comment="keep-alive", sep=LINE_END),
            sep=LINE_END,
        )
        self._frames = frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope["portico.exchange"]
        self.body_iterator = ending_in_errors(self._frames, exchange)
        head: Message | None = None

        async def send_head_late(message: Message) -> None:
            nonlocal head
            if message["type"] == "http.response.start":
                head = message
            elif head is not None:
                first, head = head, None
                await exchange.begin(first, message)
            else:
                await exchange.send(message)

        try:
            # Pass the original scope: FastAPI treats HEAD as GET, but HEAD must not open a stream.
            await super().__call__(exchange.scope, receive, send_head_late)
        except asyncio.CancelledError:
            await exchange.say_end()
            raise


async def while_present(request: Request, work: Awaitable[T]) -> T:
    """Return the result of ``work``. If the client leaves, cancel ``work``."""
    exchange: Exchange = request.scope["portico.exchange"]
    with Presence(exchange):
        return await work
    raise AssertionError  # `Presence` raised `ClientLeft`


async def events_of(runner: Runner, run: Run, *, stay: bool) -> AsyncIterator[bytes]:
    """Yield all events of a run. If the run fails immediately, raise its error, so that the response has an error
    status. ``stay``: the run continues if the client leaves.
    """
    try:
        async for events in run.log.batches():
            number, event = events[-1]
            if number == 1 and isinstance(event, Failed):
                await runner.wait(run)
            if isinstance(event, ENDINGS) and run.recorded is not None:
                # A client that sees the last event can resume or fork the run immediately.
                await run.recorded.wait()
            yield b"".join(event_frame(number, event) for number, event in events)
    finally:
        if not stay:
            await run.cancel()
