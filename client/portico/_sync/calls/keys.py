# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.keys`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._request import at, by_id, without_none
from portico._sync.group import Group
from portico.schemas.keys import Key, NewKey


class Keys(Group):
    """Who can call the daemon, and what they can do."""

    def list(
        self,
        *,
        blocked: bool | None = None,
        limit: int | None = None,
        after: str | None = None,
        query: str | None = None,
    ) -> Sequence[Key]:
        """List the keys, oldest first, then the access that people have granted to OAuth clients; without
        ``limit`` all of them. ``blocked``: list the users whose sign-in is blocked instead.

        If ``has_more`` is true, pass ``last_id`` as ``after`` to get the next page. ``query``: only keys
        whose names contain this text.
        """
        return self._transport.request(
            "GET",
            "/api/keys",
            list[Key],
            query=without_none(blocked=blocked, limit=limit, after=after, query=query),
        )

    def add(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        limits: Mapping[str, Any] | None = None,
        filters: Mapping[str, Any] | None = None,
        groups: Sequence[str] | None = None,
    ) -> NewKey:
        """Create a key. The response contains the secret, which is not stored. A filter whose store does not
        exist is refused if its name nearly matches an existing store.

        A key to create. ``limits``: concurrency, requests_per_minute, tokens_per_minute, tokens_per_day,
        storage_mb.

        ``filters`` maps stores, by name or id (``*`` for any store), to conditions on file attributes, in the
        format of the ``filters`` of a search. The key can read only files that meet the condition. ``groups``
        are the key's groups at the sources of stores with ``rights``.
        """
        return self._transport.request(
            "POST",
            "/api/keys",
            NewKey,
            json=without_none(name=name, scopes=scopes, limits=limits, filters=filters, groups=groups),
        )

    def update(
        self,
        key_id: str,
        *,
        scopes: Sequence[str] | None = None,
        filters: Mapping[str, Any] | None = None,
        limits: Mapping[str, Any] | None = None,
        groups: Sequence[str] | None = None,
    ) -> Key:
        """Change the scopes, filters, limits or groups of a key immediately.

        If the key loses rights, its calls, streams and runs end as if it were revoked. If only limits change,
        they continue, and the key's past usage counts towards the new limits.

        New values for ``scopes``, ``filters``, ``limits`` or ``groups``. Each new value replaces the old
        value entirely. Omitted fields stay unchanged; ``{}`` removes all filters or limits, ``[]`` all
        groups.
        """
        return self._transport.request(
            "PATCH",
            at("api", "keys", by_id(key_id, "a key")),
            Key,
            json=without_none(scopes=scopes, filters=filters, limits=limits, groups=groups),
        )

    def revoke(self, key_id: str) -> None:
        """Revoke a key immediately. If the key belongs to a user who signs in, the user stays blocked, whatever
        token they present.
        """
        return self._transport.request("DELETE", at("api", "keys", by_id(key_id, "a key")), None)

    def unblock(self, key_id: str) -> Key:
        """Unblock a user who signs in. The user's next token defines their rights."""
        return self._transport.request("POST", at("api", "keys", by_id(key_id, "a key"), "unblock"), Key)
