"""The request for the themes of a store, which answers with `portico.schemas.stores.StoreThemes`."""

from __future__ import annotations

from portico_server.core.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class FindThemes:
    """Asks a store for its themes and for the names that its passages mention most often."""
