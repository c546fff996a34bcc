"""A store as a Servable: a question in, passages out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.registry import Registry
from portico_server.core.request import Found, Request, Search
from portico_server.core.servable import Card
from portico_server.db.database import Database
from portico_server.db.stores import FileCounts, StoreRow
from portico_server.knowledge.index.follow import Indexes
from portico_server.knowledge.names import is_store_name
from portico_server.knowledge.search import Searcher


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """A store with what is known of its content. ``name`` is what the registry calls it; ``usage_bytes`` its chunks;
    ``problem`` why files of it could not be indexed, in the words of one of them.
    """

    row: StoreRow
    name: str
    counts: FileCounts
    usage_bytes: int
    problem: str | None = None

    @property
    def status(self) -> str:
        """``expired``, ``in_progress`` or ``completed``, in OpenAI's words."""
        if is_expired(self.row):
            return "expired"
        return "in_progress" if self.counts.in_progress else "completed"


def is_expired(row: StoreRow) -> bool:
    """Whether nobody has used the store for as long as it was to be kept."""
    return row.expires_at is not None and row.expires_at <= time.time()


class StoreServable:
    """One store, made from its row whenever somebody asks for it by name; it holds nothing open itself.

    ``embedding_model`` is the concrete name of the model whose vectors the store keeps; empty for a store
    that is searched by words alone. ``weight``: what its vectors were measured to be worth. ``indexes`` is the
    daemon's one `Indexes`.
    """

    def __init__(
        self,
        card: Card,
        store_id: str,
        embedding_model: str,
        *,
        weight: float | None = None,
        indexes: Indexes,
        database: Database,
        registry: Registry,
    ) -> None:
        self._card = card
        self._searcher = Searcher(
            store_id,
            card.name,
            embedding_model,
            weight=weight,
            indexes=indexes,
            database=database,
            registry=registry,
        )

    @property
    def card(self) -> Card:
        return self._card

    async def call(self, request: Request, context: Context) -> Found:
        """Answer `Search`; for errors see `Searcher.search`. Any other request is an `InvalidRequest`."""
        if not isinstance(request, Search):
            raise InvalidRequest(
                f"'{self._card.name}' is a store: it answers searches, not requests of the kind "
                f"'{type(request).__name__}'."
            )
        return await self._searcher.search(request, context)


def named(found: Sequence[StoreRow]) -> list[tuple[StoreRow, str]]:
    """Stores with their names in the registry: of several of one name the oldest has it, the others go by their id."""
    seen: set[str] = set()
    result = []
    for row in sorted(found, key=lambda item: item.id):
        taken = row.name in seen or not is_store_name(row.name)
        result.append((row, row.id if taken else row.name))
        seen.add(row.name)
    return result


def card_of(row: StoreRow, name: str) -> Card:
    """What the registry shows of a store."""
    return Card(
        name=name,
        kind="store",
        title=row.name or row.id,
        description=row.description,
        capabilities=frozenset({"search"}),
        labels={
            "id": row.id,
            "app": row.app,
            "embedding_model": row.embedding_model,
            "folder": row.folder,
        },
        owner=row.owner,
        created=int(row.created_at),
    )
