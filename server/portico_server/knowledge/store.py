"""A store as a Servable: a question in, passages out."""

from __future__ import annotations

from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.registry import Registry
from portico_server.core.request import Found, Request, Search
from portico_server.core.servable import Card
from portico_server.db.database import Database
from portico_server.knowledge.index.follow import Indexes
from portico_server.knowledge.search import Searcher


class StoreServable:
    """One store, made from its row whenever somebody asks for it by name; it holds nothing open itself.

    ``embedding_model`` is the concrete name of the model whose vectors the store keeps; empty for a store
    that is searched by words alone. ``indexes`` is the daemon's one `Indexes`.
    """

    def __init__(
        self,
        card: Card,
        store_id: str,
        embedding_model: str,
        *,
        indexes: Indexes,
        database: Database,
        registry: Registry,
    ) -> None:
        self._card = card
        self._searcher = Searcher(
            store_id, card.name, embedding_model, indexes=indexes, database=database, registry=registry
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
