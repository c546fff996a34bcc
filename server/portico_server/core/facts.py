"""Facts that outlive a conversation: what an agent asks of the knowledge, put in by the composition root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from portico_server.core.dataclass import dataclass
from portico_server.core.principal import Principal


@dataclass(frozen=True, slots=True)
class StoredFact:
    """One fact in the store ``store`` (its name); ``attributes`` say where it comes from.

    Its ``id`` stays when it is changed; ``created_at`` and ``changed_at`` in seconds since 1970.
    """

    id: str
    store: str
    text: str
    attributes: Mapping[str, str | float | bool]
    created_at: float
    changed_at: float


class FactStore(Protocol):
    """Keeps short texts in a store, where a search finds them. Each belongs to the caller it was kept for."""

    async def add(
        self,
        store: str,
        texts: Sequence[str],
        attributes: Mapping[str, str | float | bool],
        caller: Principal,
    ) -> None:
        """Keep each text as a file of the store; a search sees them a moment later.

        Raises `NotFound` or `Forbidden` if the caller may not write to it.
        """

    async def list(
        self,
        caller: Principal,
        *,
        store: str | None = None,
        where: Mapping[str, str] | None = None,
        limit: int = 100,
    ) -> Sequence[StoredFact]:
        """The caller's own facts, the newest first; of one store, or those with these attributes."""

    async def change(self, fact_id: str, text: str, caller: Principal) -> StoredFact:
        """Put another text in the place of a fact. Raises `NotFound`."""

    async def remove(self, fact_id: str, caller: Principal) -> None:
        """Forget a fact. Raises `NotFound`."""
