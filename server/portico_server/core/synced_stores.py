"""Stores that mirror a source: the knowledge interface for schedules, injected by the composition root."""

from __future__ import annotations

from typing import Any, Protocol

from portico_server.core.principal import Principal


class FollowedStores(Protocol):
    """Finds stores by name, and syncs them. `sync` accepts the result of `find_followed`."""

    async def find_followed(self, ref: str, caller: Principal) -> Any:
        """Return the store that ``caller`` refers to, to sync it. Raises `PorticoError` if it cannot be synced."""

    async def sync(self, row: Any) -> str:
        """Queue a sync of a store with its source; return the id of the run."""
