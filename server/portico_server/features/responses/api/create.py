"""``POST /v1/responses``: a complete response, a stream, or a response in the background. On the hot path: plain
functions over raw ASGI.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable

import orjson

from portico_server.api.exchange import Exchange, Presence
from portico_server.api.openai.relay import caller_of
from portico_server.api.services import ApiServices
from portico_server.features.responses.api.own_endpoint import with_own_paths
from portico_server.features.responses.api.service import ResponseService
from portico_server.features.responses.api.shapes import response_document
from portico_server.features.responses.open_items import Event


async def create(exchange: Exchange, services: ApiServices) -> None:
    """Create a response."""
    body = with_own_paths(await exchange.json(), exchange, services.settings)
    caller = caller_of(exchange)
    service: ResponseService = await services.features.load("responses")
    responder = service.responder
    response = await responder.prepare(body, caller)
    ask = response.ask
    if ask.background:
        row = await responder.background.begin(response, caller)
        exchange.extra.append((b"x-portico-run", row.run_id.encode()))
        if ask.stream:
            await exchange.stream(to_frames(await responder.background.follow(row, -1)))
        else:
            await exchange.answer(200, orjson.dumps(response_document(row, ask.include)))
    elif ask.stream:
        events = responder.stream(response, caller, lambda: exchange.started)
        machine = response.machine
        await exchange.stream(
            live(events, lambda: exchange.name_unenforced(machine.unenforced)), tells_errors=True
        )
    else:
        with Presence(exchange):
            document = await responder.respond(response, caller)
        exchange.name_unenforced(response.machine.unenforced)
        await exchange.answer(200, orjson.dumps(document))


async def live(
    batches: AsyncGenerator[list[Event], None], begin: Callable[[], None] | None = None
) -> AsyncIterator[bytes]:
    """Yield events as frames, one piece of bytes per batch. ``begin`` is called before the first piece.

    Closing this generator closes ``batches``.
    """
    try:
        async for batch in batches:
            if begin is not None:
                begin()
                begin = None
            yield b"".join(
                [
                    b"event: %s\ndata: %s\n\n" % (event["type"].encode(), orjson.dumps(event))
                    for event in batch
                ]
            )
    finally:
        await batches.aclose()


async def to_frames(batches: AsyncGenerator[list[bytes], None]) -> AsyncIterator[bytes]:
    """Yield frames for events that are already serialized as JSON."""
    try:
        async for batch in batches:
            yield b"".join([b"event: %s\ndata: %s\n\n" % (_type(data), data) for data in batch])
    finally:
        await batches.aclose()


def _type(data: bytes) -> bytes:
    kind: str = orjson.loads(data)["type"]
    return kind.encode()
