"""Stores that mirror something: what a schedule asks of the knowledge, put in by the composition root."""

from __future__ import annotations

from typing import Any, Protocol

from portico_server.core.principal import Principal


class FollowedStores(Protocol):
    """Finds stores by name, and syncs them. What `followed` returns is what `sync` takes."""

    async def followed(self, ref: str, caller: Principal) -> Any:
        """The store that ``caller`` means, to sync it. Raises `PorticoError` if that cannot be."""

    async def sync(self, row: Any) -> str:
        """Queue a look at what a store mirrors; the id of the run."""
