"""Facts that outlive a conversation: an agent's interface to the knowledge stores, injected by the composition root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from portico.schemas.facts import FactChange, FactSpan
from portico_server.core.dataclass import dataclass
from portico_server.core.principal import Principal

FACT: Final = "fact"
OWNER: Final = "owner"
ORIGINS: Final = "origins"
SPAN: Final = "span"
SPAN_START: Final = "span_start"
"""The attributes of a stored fact with the words of its span, and with their position in the message."""

MEMORY: Final = "memory"
"""The attribute that marks facts whose origins the memory of agents recorded. It contains `MEMORY_VERSION`."""

MEMORY_VERSION: Final = 1

UNKNOWN_ORIGIN: Final = "a remembered fact of unknown origin"
"""The origin of a fact without the attribute `MEMORY`: an earlier version, an import or a client may have written
it.
"""

RESERVED_ATTRIBUTES: Final = (FACT, OWNER, ORIGINS, MEMORY, SPAN, SPAN_START)
"""Attributes of files that only the memory of agents writes. Other services trust them: a client must not set them."""

FACTS_OF_SEVERAL: Final = "*"
"""Value of `portico_server.db.stores.StoreRow.facts_of` for a store with facts of several keys."""


@dataclass(frozen=True, slots=True)
class NewFact:
    """A fact from a turn. ``replaces`` is the id of the fact that it contradicts; empty if it contradicts none."""

    text: str
    span: FactSpan
    replaces: str = ""


@dataclass(frozen=True, slots=True)
class StoredFact:
    """A version of a fact in the store ``store`` (its name); ``attributes`` record its origin.

    All versions of a fact have the same ``id``. ``ended_at`` and ``reason`` are ``None`` for the current version. Times
    are in seconds since 1970.
    """

    id: str
    store: str
    text: str
    attributes: Mapping[str, str | float | bool]
    created_at: float
    changed_at: float
    ended_at: float | None = None
    reason: FactChange | None = None

    @property
    def span(self) -> FactSpan | None:
        """The words of the user that support the text; ``None`` if there are none."""
        words, start = self.attributes.get(SPAN), self.attributes.get(SPAN_START)
        if words is None or start is None:
            return None
        return FactSpan(str(words), int(start), int(start) + len(str(words)))


class FactStore(Protocol):
    """Stores short texts so that a search can find them. Each text belongs to the caller for whom it was stored."""

    async def add(
        self,
        store: str,
        new_facts: Sequence[NewFact],
        attributes: Mapping[str, str | float | bool],
        caller: Principal,
    ) -> None:
        """Store each fact as a file of the store; a search of ``memory/STORE`` finds it shortly afterwards.

        A fact that the store has already, or that contradicts a stored fact, becomes the current version of that fact.
        The caller needs no scope on the store. Raises `NotFound` if the caller does not see the store.
        """

    async def list(
        self,
        caller: Principal,
        *,
        store: str | None = None,
        where: Mapping[str, str] | None = None,
        versions: bool = False,
        after_id: str | None = None,
        limit: int = 100,
    ) -> Sequence[StoredFact]:
        """Return the caller's own facts, newest first. ``store`` and ``where`` select facts by store and attributes.

        With ``versions``, each fact is followed by its former versions. At most ``limit`` facts, without their
        versions, are returned after the fact ``after_id``.
        """

    async def versions(self, fact_id: str, caller: Principal) -> Sequence[StoredFact]:
        """Return the current version of a fact and its former versions, newest first. Raises `NotFound`."""

    async def change(self, fact_id: str, text: str, caller: Principal) -> StoredFact:
        """Replace the text of a fact. Raises `NotFound`."""

    async def revert(self, fact_id: str, caller: Principal) -> StoredFact:
        """Restore the version before the last change. Raises `NotFound`, and `Conflict` if no such version exists."""

    async def remove(self, fact_id: str, caller: Principal) -> None:
        """Delete a fact with its former versions. Raises `NotFound`."""
