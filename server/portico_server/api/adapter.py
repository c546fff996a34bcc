"""What the gateway hands a request on to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from portico_server.api.exchange import ASGIApp, Exchange
from portico_server.api.services import ApiServices
from portico_server.core.dataclass import dataclass


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


@dataclass(frozen=True, slots=True)
class ProtocolAdapter:
    """An ASGI application, and what must be kept open while it serves. ``direct`` answers what is asked so often that
    the application around it counts, and returns whether it has.
    """

    app: ASGIApp
    lifespan: Callable[[], AbstractAsyncContextManager[None]] = _nothing
    direct: Callable[[Exchange, ApiServices], Awaitable[bool]] | None = None
