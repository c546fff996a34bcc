"""What the gateway hands a request on to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from portico_server.api.exchange import ASGIApp


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


@dataclass(frozen=True, slots=True)
class ProtocolAdapter:
    """An ASGI application, and what must be kept open while it serves."""

    app: ASGIApp
    lifespan: Callable[[], AbstractAsyncContextManager[None]] = _nothing
