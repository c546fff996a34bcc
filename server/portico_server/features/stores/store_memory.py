"""The facts that agents remember in a store, as a servable that searches only the facts of the caller."""

from __future__ import annotations

from dataclasses import replace

from portico.wire import Passage
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.facts import FACT, MEMORY, MEMORY_VERSION, ORIGINS, OWNER, UNKNOWN_ORIGIN
from portico_server.core.principal import Principal
from portico_server.core.request import Filter, Request, Search, SearchResult
from portico_server.core.servable import Card
from portico_server.db import facts
from portico_server.db.database import Database
from portico_server.features.stores.store import StoreServable

_MAX_PLANTED = 50
"""Minimum number of results to request again, if some of the first results are not facts of the caller."""


def own_facts(caller: Principal) -> Filter:
    """Return the condition that the facts of ``caller`` meet."""
    return Filter("and", filters=(Filter("eq", FACT, True), Filter("eq", OWNER, caller.id)))


class StoreMemory:
    """Searches the caller's own facts in the store that ``store`` searches, whatever the caller's scopes.

    A file counts only if the caller owns it: before attributes were reserved, others could upload a file with the
    attributes of a fact. The attribute ``origins`` of a fact whose origins nobody recorded names an unknown origin.
    """

    def __init__(self, store: StoreServable, store_id: str, database: Database) -> None:
        self._store = store
        self._store_id = store_id
        self._database = database

    @property
    def card(self) -> Card:
        return self._store.card

    async def call(self, request: Request, context: Context) -> SearchResult:
        """Answer `Search`. Raise `InvalidRequest` for any other request."""
        if not isinstance(request, Search):
            raise InvalidRequest(f"The memory in '{self.card.name}' answers only searches.")
        result, passages = await self._search(request, context)
        if len(passages) < len(result.passages):
            more = replace(request, max_num_results=max(request.max_num_results, _MAX_PLANTED))
            result, passages = await self._search(more, context)
        return replace(result, passages=tuple(map(_with_origins, passages[: request.max_num_results])))

    async def _search(self, request: Search, context: Context) -> tuple[SearchResult, list[Passage]]:
        result = await self._store.call(request, context)
        assert isinstance(result, SearchResult)
        ids = [passage.file_id for passage in result.passages]
        own_ids = await self._database.read(facts.own_files, self._store_id, context.caller.id, ids)
        return result, [passage for passage in result.passages if passage.file_id in own_ids]


def _with_origins(passage: Passage) -> Passage:
    if passage.attributes.get(MEMORY) == MEMORY_VERSION and ORIGINS in passage.attributes:
        return passage
    origins = passage.attributes.get(ORIGINS)
    names = f"{origins}\n{UNKNOWN_ORIGIN}" if origins else UNKNOWN_ORIGIN
    return replace(passage, attributes={**passage.attributes, ORIGINS: names})
