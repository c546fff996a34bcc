"""Notices that a list has changed, to clients of both eras."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from weakref import WeakSet

import mcp_types as types
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    ResourcesListChanged,
    ToolsListChanged,
)

from portico_server.core.registry import Registry
from portico_server.core.servable import Kind

_TOOLS: Final[frozenset[Kind]] = frozenset({"app", "tool", "store"})
_RESOURCES: Final[frozenset[Kind]] = frozenset({"store"})


class Changes:
    """Watches the registry. Clients with a session hear through it; those of 2026-07-28 through `listen`.

    Notices carry no names, so that they may go to every client, whatever it may see.
    """

    def __init__(self, registry: Registry) -> None:
        self._bus = InMemorySubscriptionBus()
        self.listen = ListenHandler(self._bus)
        # The transport holds a connection for as long as its session lives; it tells nobody when that ends.
        self._sessions: WeakSet[Connection] = WeakSet()
        self._changed: set[Kind] = set()
        self._some = asyncio.Event()
        registry.watch(self._note)

    def _note(self, kind: Kind) -> None:
        if kind in _TOOLS:
            self._changed.add(kind)
            self._some.set()

    async def greet(
        self, context: ServerRequestContext[Any], _params: types.NotificationParams | None
    ) -> None:
        """Handler of ``notifications/initialized``: from now on this session hears of changes."""
        # The package hands handlers a proxy that lives for one message; the connection behind it has no
        # public name.
        self._sessions.add(context.session._connection)

    async def run(self) -> None:
        """Tell of changes until cancelled. Those that come together are told of once."""
        while True:
            await self._some.wait()
            self._some.clear()
            changed, self._changed = self._changed, set()
            if changed & _TOOLS:
                await self._bus.publish(ToolsListChanged())
            if changed & _RESOURCES:
                await self._bus.publish(ResourcesListChanged())
            for session in tuple(self._sessions):
                if changed & _TOOLS:
                    await session.send_tool_list_changed()
                if changed & _RESOURCES:
                    await session.send_resource_list_changed()

    def close(self) -> None:
        """End the streams of those who listen, in good order."""
        self.listen.close()
