"""Facts that outlive a conversation: an agent's interface to the knowledge stores, injected by the composition root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from portico_server.core.dataclass import dataclass
from portico_server.core.principal import Principal


@dataclass(frozen=True, slots=True)
class StoredFact:
    """A fact in the store ``store`` (its name); ``attributes`` record its origin.

    Changing a fact keeps its ``id``; ``created_at`` and ``changed_at`` are in seconds since 1970.
    """

    id: str
    store: str
    text: str
    attributes: Mapping[str, str | float | bool]
    created_at: float
    changed_at: float


class FactStore(Protocol):
    """Stores short texts so that a search can find them. Each text belongs to the caller for whom it was stored."""

    async def add(
        self,
        store: str,
        texts: Sequence[str],
        attributes: Mapping[str, str | float | bool],
        caller: Principal,
    ) -> None:
        """Store each text as a file of the store; a search finds it shortly afterwards.

        Raises `NotFound` or `Forbidden` if the caller may not write to the store.
        """

    async def list(
        self,
        caller: Principal,
        *,
        store: str | None = None,
        where: Mapping[str, str] | None = None,
        limit: int = 100,
    ) -> Sequence[StoredFact]:
        """Return the caller's own facts, newest first. ``store`` and ``where`` select facts by store and attributes."""

    async def change(self, fact_id: str, text: str, caller: Principal) -> StoredFact:
        """Replace the text of a fact. Raises `NotFound`."""

    async def remove(self, fact_id: str, caller: Principal) -> None:
        """Delete a fact. Raises `NotFound`."""
