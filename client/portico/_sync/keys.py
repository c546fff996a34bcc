# Made from portico/_async by scripts/twin: change it there.
"""Keys of the daemon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._request import at, given, named
from portico._sync.group import Group
from portico.schemas.keys import Key, NewKey


class Keys(Group):
    """Who may call, and what."""

    def list(self, *, blocked: bool = False) -> list[Key]:
        """All keys, without their secrets. ``blocked``: in their place those who signed in and are kept out."""
        query = given(blocked="true" if blocked else None)
        return self._transport.request("GET", "/api/keys", list[Key], query=query)

    def add(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        limits: Mapping[str, int] | None = None,
        filters: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> NewKey:
        """Make a key. Its secret is told here and never again.

        ``limits``: ``concurrency``, ``requests_per_minute``, ``tokens_per_minute``, ``tokens_per_day``,
        ``storage_mb``.
        ``filters``: for a store, by its name or id or ``*``, what the attributes of a file must meet for the key to
        read it, as in a search.
        """
        body = given(
            name=name,
            scopes=list(scopes),
            limits=dict(limits) if limits else None,
            filters={store: dict(item) for store, item in filters.items()} if filters else None,
        )
        return self._transport.request("POST", "/api/keys", NewKey, json=body)

    def update(
        self,
        key_id: str,
        *,
        scopes: Sequence[str] | None = None,
        filters: Mapping[str, Mapping[str, Any]] | None = None,
        limits: Mapping[str, int] | None = None,
    ) -> Key:
        """Let a key have other scopes, filters or limits, all of which are given, at once; what is left out stays, and
        ``{}`` takes all filters, or all limits, away. If it may do or read less than before, its calls, streams and
        runs end; under other limits they continue, and what it used counts.
        """
        path = at("api", "keys", named(key_id, "a key"))
        body = given(
            scopes=None if scopes is None else list(scopes),
            filters=None if filters is None else {store: dict(item) for store, item in filters.items()},
            limits=None if limits is None else dict(limits),
        )
        return self._transport.request("PATCH", path, Key, json=body)

    def revoke(self, key_id: str) -> None:
        """Make a key worthless at once. Somebody who signs in is kept out from then on."""
        return self._transport.request("DELETE", at("api", "keys", named(key_id, "a key")), None)

    def unblock(self, key_id: str) -> Key:
        """Let somebody in again who signs in and was kept out. What they may do, their next token says."""
        path = at("api", "keys", named(key_id, "a key"), "unblock")
        return self._transport.request("POST", path, Key)
