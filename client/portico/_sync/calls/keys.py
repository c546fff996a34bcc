# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.keys`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._request import at, by_id, given
from portico._sync.group import Group
from portico.schemas.keys import Key, NewKey


class Keys(Group):
    """Who may call, and what."""

    def list(self, *, blocked: bool | None = None) -> Sequence[Key]:
        """All keys, oldest first. ``blocked``: in their place those who signed in and are kept out."""
        return self._transport.request("GET", "/api/keys", list[Key], query=given(blocked=blocked))

    def add(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        limits: Mapping[str, Any] | None = None,
        filters: Mapping[str, Any] | None = None,
    ) -> NewKey:
        """A new key; the answer holds the secret, which is kept nowhere. A filter on a store whose name is
        nearly that of another one is refused.

        A key to be made. ``limits``: concurrency, requests_per_minute, tokens_per_minute, tokens_per_day,
        storage_mb.

        ``filters``: for a store, by its name or id or ``*`` for any, what the attributes of its files must
        meet for this key to read them, in the form of the ``filters`` of a search.
        """
        return self._transport.request(
            "POST", "/api/keys", NewKey, json=given(name=name, scopes=scopes, limits=limits, filters=filters)
        )

    def update(
        self,
        key_id: str,
        *,
        scopes: Sequence[str] | None = None,
        filters: Mapping[str, Any] | None = None,
        limits: Mapping[str, Any] | None = None,
    ) -> Key:
        """Let a key have other scopes, filters or limits, at once. If it may do or read less, its calls, streams
        and runs end as by a revocation; under other limits they continue, and what it used counts.

        ``scopes``, ``filters``, ``limits``: all that the key has from then on. What is left out stays; ``{}``
        is no filters, and no limits.
        """
        return self._transport.request(
            "PATCH",
            at("api", "keys", by_id(key_id, "a key")),
            Key,
            json=given(scopes=scopes, filters=filters, limits=limits),
        )

    def revoke(self, key_id: str) -> None:
        """End a key, at once. Somebody who signs in is kept out from then on, whatever token they bring."""
        return self._transport.request("DELETE", at("api", "keys", by_id(key_id, "a key")), None)

    def unblock(self, key_id: str) -> Key:
        """Let somebody in again who signs in and was kept out. What they may do, their next token says."""
        return self._transport.request("POST", at("api", "keys", by_id(key_id, "a key"), "unblock"), Key)
