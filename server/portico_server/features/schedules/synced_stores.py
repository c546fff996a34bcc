"""Stores that mirror a source: the knowledge stores' interface for schedules, injected by the composition root."""

from __future__ import annotations

from typing import Any, Protocol

from portico_server.core.principal import Principal


class FollowedStores(Protocol):
    """Finds and syncs stores that follow a source. Pass the result of `find_followed` to `sync`."""

    async def find_followed(self, ref: str, caller: Principal) -> Any:
        """Return the store to which ``caller`` refers, for `sync`. Raises `PorticoError` if the store cannot be
        synced.
        """

    async def sync(self, row: Any) -> str:
        """Queue a sync of a store with its source; return the id of the sync's run."""
