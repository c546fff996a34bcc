"""Records which store has claimed which name, both in the registry and among the private names of keys."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from portico_server.core.errors import Conflict
from portico_server.core.registry import Registry
from portico_server.db import stores as rows
from portico_server.db.database import Database
from portico_server.db.names import claim_of
from portico_server.db.stores import StoreRow
from portico_server.features.stores.names import check_store_name, is_store_name


class StoreClaims:
    """Writes the rows of stores together with the names that they claim."""

    def __init__(self, database: Database, registry: Registry) -> None:
        self._database = database
        self._registry = registry
        self._private: set[str] | None = None
        """The private names that keys have claimed, see `claim_of`; ``None`` until they are loaded."""

    async def load(self) -> None:
        """Load the private names from the database."""
        self._private = await self._database.read(rows.claims)

    def has(self, key: str, owner: str) -> bool:
        """Return whether a key may have a private store named ``store/NAME``. True until the names are loaded."""
        if not self._private:
            return self._private is None
        kind, _, name = key.partition("/")
        return kind == "store" and claim_of(owner, name) in self._private

    def note(self, row: StoreRow) -> None:
        """Record the private name that a store has claimed."""
        if self._private is not None and row.owner is not None and row.claim is not None:
            self._private.add(row.claim)

    async def release(self, row: StoreRow) -> None:
        """Release the name of a deleted or renamed store. If other stores have this name as their title, the oldest of
        them claims it.
        """
        if row.claim is None:
            return
        if self._private is not None and row.owner is not None:
            self._private.discard(row.claim)
        heir = await self._database.read(rows.oldest_titled, row.name, row.owner)
        if heir is None:
            return
        heir = replace(heir, claim=row.claim)
        with suppress(Conflict):
            async with self._registry.claims.hold(row.owner, *registry_keys(heir)):
                if await self._database.write(_inherit, heir):
                    self.note(heir)

    async def insert(self, row: StoreRow) -> StoreRow:
        """Write a new row, and claim the store's name. Raise `Conflict` if the name is not available to the store's
        owner.
        """
        row = replace(row, claim=claim_of(row.owner, row.name))
        async with self._registry.claims.hold(row.owner, *registry_keys(row)):
            if not await self._database.write(rows.add, row):
                raise store_taken_error(row.name)
        self.note(row)
        return row

    async def insert_titled(self, row: StoreRow) -> StoreRow:
        """Write a new row whose name is a title. Claim the name too if it is available to the store's owner."""
        if is_store_name(row.name):
            with suppress(Conflict):
                return await self.insert(row)
        await self._database.write(rows.add, row)
        return row

    async def change(self, row: StoreRow, new: StoreRow, changes: Mapping[str, Any]) -> StoreRow:
        """Write changes to a store, and claim its new name. Raise `Conflict` if the name is not available."""
        must = new.name != row.name and (row.owner is None or new.app)
        if must:
            check_store_name(new.name)
        before = set(registry_keys(row)) if row.claim is not None else set()
        if new.name != row.name or (new.app and row.claim is None):
            new = replace(new, claim=claim_of(row.owner, new.name) if is_store_name(new.name) else None)
        new_keys = [key for key in registry_keys(new) if key not in before] if new.claim is not None else []
        values = dict(changes)
        if (new.claim, new.app) != (row.claim, row.app):  # otherwise, another call may have changed the claim
            values["claim"] = new.claim
        try:
            async with self._registry.claims.hold(row.owner, *new_keys):
                if not await self._database.write(rows.change, row.id, values):
                    raise store_taken_error(new.name)
        except Conflict:
            if must or new.app:
                raise
            new = replace(new, claim=None)
            await self._database.write(rows.change, row.id, {**changes, "claim": None})
        if new.claim != row.claim:
            self.note(new)
            await self.release(row)
        return new


def _inherit(connection: Any, heir: StoreRow) -> bool:
    """Write the claim of an heir; return ``False`` if another call has renamed or deleted the store meanwhile."""
    row = rows.oldest_titled(connection, heir.name, heir.owner)
    return row is not None and row.id == heir.id and rows.change(connection, row.id, {"claim": heir.claim})


def registry_keys(row: StoreRow) -> tuple[str, ...]:
    """Return a store's keys in the registry: its own, and that of its chat app."""
    return (f"store/{row.name}", row.name) if row.app else (f"store/{row.name}",)


def store_taken_error(name: str) -> Conflict:
    """Return the error for a store name that is already in use."""
    return Conflict(
        f"A store '{name}' already exists. Choose another name, or delete that store first.",
        code="name_taken",
        param="name",
    )
