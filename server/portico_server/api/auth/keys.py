"""The active keys, in memory."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, Final

import orjson

from portico_server.api.auth.credentials import OPERATOR
from portico_server.core.errors import Forbidden, InvalidRequest
from portico_server.core.filter import parse_bound, to_json
from portico_server.core.limits import KeyLimits
from portico_server.core.names import is_plain
from portico_server.core.principal import LOCAL, SYSTEM, Principal
from portico_server.db import usage
from portico_server.db.database import Database
from portico_server.db.keys import KeyRow
from portico_server.db.usage import DAY_S
from portico_server.runs.quotas import MINUTE_S, Quotas

MAX_GROUPS: Final = 1_000
"""Maximum number of groups of a key."""

MAX_GROUP_CHARS: Final = 200


class KeyTable:
    """The rows of the active keys and their callers. ``quotas`` enforces the limits of the keys.

    The table only reads the database, to find out what a key used before it got its limits.
    """

    def __init__(self, database: Database, quotas: Quotas) -> None:
        self._database = database
        self._quotas = quotas
        self._rows: dict[str, KeyRow] = {}
        self._callers: dict[str, Principal] = {}
        """Callers, keyed by the hash of their key."""
        self.changes_count = 0
        """Number of times a key was created or revoked on this daemon."""

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key_id: str) -> bool:
        return key_id in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def list(self) -> Sequence[KeyRow]:
        """Return the active keys, oldest first."""
        return sorted(self._rows.values(), key=lambda row: row.created_at)

    def get(self, key_id: str) -> KeyRow | None:
        """Return the key with this id if it is active."""
        return self._rows.get(key_id)

    def caller(self, digest: str) -> Principal | None:
        """Return the caller whose key has this hash."""
        return self._callers.get(digest)

    def principal(self, owner: str) -> Principal:
        """Return the current caller for a key id. Raise `Forbidden` if the key was revoked."""
        for principal in (LOCAL, OPERATOR, SYSTEM):
            if owner == principal.id:
                return principal
        row = self._rows.get(owner)
        if row is None:
            raise Forbidden(f"The key '{owner}', which owns this resource, was revoked.", code="key_revoked")
        return self._callers[row.hash]

    def filtered(self, *stores: str) -> Sequence[str]:
        """Return the names of the keys that have a filter on any of the ``stores``, given by name or id."""
        return [row.name for row in self._rows.values() if not row.filters.keys().isdisjoint(stores)]

    def admit(self, row: KeyRow) -> bool:
        """Add a row to the table. Return whether the key's past usage must be counted towards its limits."""
        begins = self.hold(row)
        self._rows[row.id] = row
        self._callers[row.hash] = _principal(row)
        return begins

    def update(self, row: KeyRow) -> bool:
        """Apply the limits of a row that was read from the database. If the row is new or its user signed in again,
        apply the whole row.

        Return whether the key's past usage must be counted towards its limits.
        """
        key = self._rows.get(row.id)
        new = key is None or key.signed_in_at != row.signed_in_at
        return self.admit(row) if new else self.hold(row)

    def hold(self, row: KeyRow) -> bool:
        """Apply the limits that a row is about to get. Return whether the key's past usage must be counted towards
        them.
        """
        key = self._rows.get(row.id)
        if key is not None and key.limits == row.limits:
            return False
        return self._quotas.change(row.id, row.name, KeyLimits.parse(row.limits).usage)

    def take_over(self, row: KeyRow) -> bool:
        """Update the rights of a known key. Return whether the key may do or read less than before."""
        before = self._rows.get(row.id)
        if before is None:  # revoked in the meantime
            return False
        old_filters, new_filters = _comparable_filters(before.filters), _comparable_filters(row.filters)
        self._rows[row.id] = row
        if (before.scopes, before.groups, old_filters) == (row.scopes, row.groups, new_filters):
            return False
        caller = self._callers[row.hash] = _principal(row)
        keeps_groups = caller.groups.issuperset(before.groups)
        return not (keeps_groups and all(map(caller.allows, before.scopes)) and new_filters <= old_filters)

    def remove(self, key_id: str) -> None:
        """Forget a revoked key."""
        row = self._rows.pop(key_id, None)
        if row is not None:
            self._callers.pop(row.hash, None)
            self._quotas.forget(row.id)

    async def resume(self, rows: Iterable[KeyRow]) -> None:
        """Count what keys used in the last minute and today, before they got their limits."""
        now = time.time()
        for row in rows:
            meter = self._quotas.of(row.id)
            if meter is not None:
                requests, tokens = await self._database.read(usage.sum_spent, row.id, now - MINUTE_S)
                _, today = await self._database.read(usage.sum_spent, row.id, now - now % DAY_S)
                meter.resume(requests=requests, tokens=tokens, spent_tokens=today)


def _comparable_filters(filters: Mapping[str, Any]) -> Set[tuple[str, bytes]]:
    """Return filters in a comparable form, because Python treats ``1`` and ``true`` as equal."""
    return {(store, orjson.dumps(item)) for store, item in filters.items()}


def _principal(row: KeyRow) -> Principal:
    return Principal(row.id, frozenset(row.scopes), parse_bound(row.filters), frozenset(row.groups))


def checked_groups(groups: Sequence[str]) -> tuple[str, ...]:
    """Return the groups of a key without repetitions. Raise `InvalidRequest` for too many groups, and for one that is
    too long or has control characters.
    """
    if len(groups) > MAX_GROUPS:
        raise InvalidRequest(
            f"A key can have {MAX_GROUPS:,} groups, not {len(groups):,}. List only groups with rights at a source.",
            param="groups",
        )
    for group in groups:
        if not 1 <= len(group) <= MAX_GROUP_CHARS or not is_plain(group):
            raise InvalidRequest(
                f"'{group[:80]}' is not a group: expected 1 to {MAX_GROUP_CHARS} characters without control "
                "characters.",
                param="groups",
            )
    return tuple(dict.fromkeys(groups))


def checked_filters(
    filters: Mapping[str, Any] | None, scopes: Sequence[str], param: str = "filters"
) -> dict[str, Any]:
    """Return the filters of a key in normal form: an attribute filter for each store, given by name, id or ``*``.

    Raise `InvalidRequest` for an invalid filter, and for any filter of an administrator, whom a filter cannot
    restrict.
    """
    bound_filters = parse_bound(filters, param)
    if bound_filters and "admin" in scopes:
        raise InvalidRequest(
            "A key with the scope 'admin' sees everything, so it cannot have filters. Give it only the "
            "scopes it needs, such as 'stores:handbook:read'.",
            param=param,
        )
    return {store: to_json(condition) for store, condition in bound_filters}
