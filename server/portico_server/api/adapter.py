"""What the gateway forwards requests to: a function, or an adapter that is imported after the daemon starts to
serve.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib import import_module
from typing import Final, TypeAlias

from portico_server.api.exchange import ASGIApp, Exchange
from portico_server.api.services import ApiServices
from portico_server.api.socket import WebSocket
from portico_server.core import pools
from portico_server.core.dataclass import dataclass

Handler: TypeAlias = Callable[[Exchange, ApiServices], Awaitable[None]]
SocketHandler: TypeAlias = Callable[[WebSocket, ApiServices], Awaitable[None]]

FASTAPI: Final = "fastapi_app"
MCP: Final = "mcp"

_MODULES: Final = {FASTAPI: "portico_server.api.fastapi_app", MCP: "portico_server.features.mcp"}
"""The modules of the adapters. Each has a function ``build``. The adapter of another feature has the feature's name."""


@asynccontextmanager
async def _no_events() -> AsyncIterator[None]:
    yield


@dataclass(frozen=True, slots=True)
class ProtocolAdapter:
    """An ASGI application and the resources that stay open while it serves.

    ``direct`` answers frequent requests, for which the application's overhead would matter. It returns whether it
    answered.
    """

    app: ASGIApp
    lifespan: Callable[[], AbstractAsyncContextManager[None]] = _no_events
    direct: Callable[[Exchange, ApiServices], Awaitable[bool]] | None = None


class Adapters:
    """The protocol adapters. A request that arrives before its adapter is imported waits for the import."""

    def __init__(self, services: ApiServices) -> None:
        self._services = services
        self._futures: dict[str, asyncio.Future[ProtocolAdapter]] = {}
        self.furnished = asyncio.Event()
        """Set once all adapters that are imported at startup are available: all except MCP's."""
        self.has_mcp = asyncio.Event()
        self._needs_mcp = asyncio.Event()

    async def open_fastapi(self, stack: AsyncExitStack) -> None:
        """Import the adapter with the FastAPI endpoints. ``stack`` keeps it open."""
        await self._open(FASTAPI, stack)
        self.furnished.set()

    async def open_mcp(self, stack: AsyncExitStack) -> None:
        """Import the MCP adapter when the first request needs it: the adapter takes a fifth of an idle daemon's
        memory.
        """
        await self._needs_mcp.wait()
        await self._open(MCP, stack)
        self.has_mcp.set()

    async def get(self, name: str) -> ProtocolAdapter:
        """Return the adapter with a name, once it is imported. The adapter of a feature is imported by the first
        request to it.
        """
        if name == MCP:
            self._needs_mcp.set()
        elif name != FASTAPI and name not in self._futures:
            loading = pools.LOADING.run(_load_feature, name)
            self._futures[name] = asyncio.ensure_future(loading)
        return await asyncio.shield(self._future(name))

    async def _open(self, name: str, stack: AsyncExitStack) -> None:
        adapter = await pools.LOADING.run(_load, name, self._services)
        await stack.enter_async_context(adapter.lifespan())
        self._future(name).set_result(adapter)

    def _future(self, name: str) -> asyncio.Future[ProtocolAdapter]:
        future = self._futures.get(name)
        if future is None:
            future = self._futures[name] = asyncio.get_running_loop().create_future()
        return future


def _load_feature(name: str) -> ProtocolAdapter:
    adapter: ProtocolAdapter = import_module(_MODULES[FASTAPI]).build_feature(name)
    return adapter


def _load(name: str, services: ApiServices) -> ProtocolAdapter:
    """Import and build an adapter. This takes up to a second, so it runs in a thread."""
    adapter: ProtocolAdapter = import_module(_MODULES[name]).build(services)
    return adapter
