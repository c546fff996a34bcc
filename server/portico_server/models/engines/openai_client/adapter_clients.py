"""Clients for engines on which each adapter has a name of its own: engines that load adapters only at their start, and
engines that load them while running.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from portico_server.core.errors import Unavailable
from portico_server.core.relay import AdapterScale, Relay, RelayResponse
from portico_server.models.protocol import EngineClient


class FixedAdapterClient:
    """An `EngineClient` whose engine serves only the adapters with which it was started."""

    def __init__(self, inner: EngineClient, name: str, adapters: Sequence[AdapterScale]) -> None:
        self._inner = inner
        self._name = name
        self._adapters = tuple(adapters)

    def relay(self, request: Relay, deadline: float | None) -> Coroutine[Any, Any, RelayResponse]:
        """See `portico_server.models.protocol.EngineClient`."""
        if request.adapter is not None and not self.fits(request.adapter):
            raise adapter_not_loaded(request.adapter, self._name)
        return self._inner.relay(request, deadline)

    def fits(self, adapter: AdapterScale) -> bool:
        return adapter in self._adapters

    async def attach(self, adapter: AdapterScale) -> None:
        """Do nothing, because an adapter that fits is already loaded."""

    async def detach(self, name: str) -> bool:
        return all(adapter.name != name for adapter in self._adapters)


class LiveAdapterClient:
    """An `EngineClient` whose engine loads adapters while it is running.

    ``load`` and ``unload`` call the engine and raise `PorticoError`. ``fits`` returns whether the engine was started
    with options that support the adapter.
    """

    def __init__(
        self,
        inner: EngineClient,
        *,
        load: Callable[[AdapterScale], Awaitable[None]],
        unload: Callable[[str], Awaitable[None]],
        fits: Callable[[AdapterScale], bool],
        name: str,
    ) -> None:
        self._inner = inner
        self._name = name
        self._load = load
        self._unload = unload
        self._takes = fits
        self._loaded_adapters: dict[str, AdapterScale] = {}
        self._lock = asyncio.Lock()

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.models.protocol.EngineClient`."""
        adapter = request.adapter
        if adapter is not None and self._loaded_adapters.get(adapter.name) != adapter:
            if not self._takes(adapter):
                raise adapter_not_loaded(adapter, self._name)
            await self.attach(adapter)
        return await self._inner.relay(request, deadline)

    def fits(self, adapter: AdapterScale) -> bool:
        return self._takes(adapter)

    async def attach(self, adapter: AdapterScale) -> None:
        async with self._lock:
            adapter_scale = self._loaded_adapters.get(adapter.name)
            if adapter_scale == adapter:
                return
            if adapter_scale is not None:
                await self._unload(adapter.name)
                del self._loaded_adapters[adapter.name]
            await self._load(adapter)
            self._loaded_adapters[adapter.name] = adapter

    async def detach(self, name: str) -> bool:
        async with self._lock:
            if self._loaded_adapters.pop(name, None) is not None:
                await self._unload(name)
        return True


def adapter_not_loaded(adapter: AdapterScale, name: str) -> Unavailable:
    """Return the error for a call to an adapter that the running process could not load."""
    return Unavailable(
        f"The adapter '{adapter.name}' could not be loaded with '{name}'. See the daemon's log for the "
        "reason.",
        code="adapter_not_loaded",
    )
