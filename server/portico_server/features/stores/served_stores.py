"""Serves stores and the memory in them through the registry, and records when each store was last used."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from contextvars import ContextVar
from dataclasses import replace
from functools import partial

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.servable import Card, Kind, Servable
from portico_server.db import stores as rows
from portico_server.db.database import Database
from portico_server.db.stores import StoreRow
from portico_server.features.stores.default_reranker import DefaultReranker
from portico_server.features.stores.index.manager import IndexManager
from portico_server.features.stores.names import is_store_name
from portico_server.features.stores.search import Condition
from portico_server.features.stores.store import (
    FRESH_S,
    StoreServable,
    is_expired,
    name_for,
    scoped_card,
    store_card,
    view,
)
from portico_server.features.stores.store_claims import StoreClaims
from portico_server.features.stores.store_memory import StoreMemory, own_facts
from portico_server.features.stores.store_tables import StoreTables
from portico_server.features.stores.themes.store_themes import ThemeReader

logger = logging.getLogger(__name__)

_KINDS = ("store", "memory")
"""What is served of a store: its files, and the facts that agents remember in it."""

TOUCH_INTERVAL_S = 60.0
"""Minimum interval between updates of a store's time of last use, in seconds."""


@dataclass(frozen=True, slots=True)
class _SharedRow:
    """The shared store of a name, read until a time on the monotonic clock; ``row`` is ``None`` if none exists."""

    name: str
    row: StoreRow | None
    until: float


_SHARED: ContextVar[_SharedRow | None] = ContextVar("shared", default=None)
"""The shared store that the last lookup of a key's own store has read."""


class ServedStores:
    """A `portico_server.core.registry.Source` of all stores of the daemon."""

    kinds: frozenset[Kind] = frozenset({"store"})

    def __init__(
        self,
        database: Database,
        registry: Registry,
        indexes: IndexManager,
        claims: StoreClaims,
        tables: StoreTables,
        themes: ThemeReader,
    ) -> None:
        self._database = database
        self._registry = registry
        self._indexes = indexes
        self._tables = tables
        self._themes = themes
        self._reranker = DefaultReranker(registry)
        self.has = claims.has
        self._touching: set[str] = set()
        """The ids of the stores whose use is being recorded."""

    async def find(self, key: str, owner: str | None) -> Servable | None:
        """Return ``store/NAME`` or ``memory/NAME`` of this owner, or ``None``; see
        `portico_server.core.registry.Source`.
        """
        kind, _, name = key.partition("/")
        if kind not in _KINDS or not is_store_name(name):
            return None
        row = await self._read_named(name, owner)
        return None if row is None else self._served(kind, row)

    async def _read_named(self, name: str, owner: str | None) -> StoreRow | None:
        """Return the store of a name that belongs to exactly this owner.

        A lookup of a key's own store is followed by that of the shared one, so one statement reads both.
        """
        recent = _SHARED.get()
        if owner is None and recent is not None and recent.name == name and recent.until > time.monotonic():
            _SHARED.set(None)
            return recent.row
        own_row, shared_row = await rows.fetch_named(self._database, name, owner)
        if owner is not None and own_row is None:
            _SHARED.set(_SharedRow(name, shared_row, time.monotonic() + FRESH_S))
        return own_row

    async def by_id(self, key: str, caller: Principal) -> Servable | None:
        """Return ``store/ID`` or ``memory/ID`` if the caller can see it, otherwise ``None``."""
        kind, _, ref = key.partition("/")
        if kind not in _KINDS or is_store_name(ref):
            return None
        row = await rows.fetch(self._database, ref)
        return self._served(kind, row) if row is not None and caller.sees(row.owner) else None

    def _served(self, kind: str, row: StoreRow) -> Servable:
        return self.memory(row) if kind == "memory" else self.servable(row)

    def memory(self, row: StoreRow) -> Servable:
        """Return the servable that searches the facts that agents remember in a store. ``row`` must be up to date."""
        card = replace(scoped_card(row), is_memory=True)
        return StoreMemory(self._servable(row, card, own_facts), row.id, self._database)

    def servable(self, row: StoreRow) -> Servable:
        """Return the servable that searches a store. ``row`` must be up to date."""
        card = scoped_card(row)
        return self._servable(row, card, lambda caller: view(row, caller).condition)

    def _servable(self, row: StoreRow, card: Card, condition: Condition) -> StoreServable:
        return StoreServable(
            card,
            row.id,
            row.embedding_model,
            weight=row.vector_weight,
            links=row.links,
            has_review=row.has_review,
            fresh_row=row,
            condition=condition,
            indexes=self._indexes,
            tables=self._tables,
            themes=self._themes,
            database=self._database,
            registry=self._registry,
            reranker=self._reranker,
            before=partial(self._touch, row),
        )

    async def _touch(self, row: StoreRow) -> None:
        """Record that a store was used, without delaying the search. Raise `InvalidRequest` if the store has
        expired.
        """
        if is_expired(row):
            raise InvalidRequest(
                f"The store '{row.name or row.id}' has expired after {row.expires_after_days} days without "
                "use. Create a new store, or change its expires_after.",
                code="vector_store_expired",
                param="vector_store_id",
            )
        if time.time() - row.last_active_at <= TOUCH_INTERVAL_S or row.id in self._touching:
            return
        self._touching.add(row.id)
        future = self._database.submit(partial(rows.touch, store_id=row.id), full=False)
        future.add_done_callback(partial(self._touched, row.id))

    def _touched(self, store_id: str, future: asyncio.Future[None]) -> None:
        self._touching.discard(store_id)
        if not future.cancelled() and (error := future.exception()) is not None:
            logger.warning("failed to record that a store is in use: %s", error)

    async def cards(
        self, caller: Principal, kinds: Collection[Kind] = (), listed_cards: Sequence[Card] = ()
    ) -> Sequence[Card]:
        """Return the cards of the caller's own and shared stores; for apps alone, of the stores with an app."""
        only_apps = bool(kinds) and "store" not in kinds
        store_rows = await self._database.read(rows.visible, caller.id, only_apps=only_apps)
        own_names = await self._database.read(rows.own_names, caller.id)
        return [store_card(row, name_for(row, caller.id, own_names)) for row in store_rows]

    async def similar(self, name: str, caller: Principal) -> Sequence[Card]:
        """See `portico_server.core.registry.Source`."""
        store_rows = await self._database.read(rows.similar, name, caller.id)
        return [store_card(row, row.name) for row in store_rows]
