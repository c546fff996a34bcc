"""API keys: create, change and revoke keys, and decide when a caller needs no key."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, Protocol, TypeVar

from portico_server.api.auth.credentials import OPERATOR, PLACEHOLDER, PREFIX, hash_of
from portico_server.api.auth.grants import Grants
from portico_server.api.auth.identities import Identities
from portico_server.api.auth.keys import KeyTable, checked_filters, checked_groups
from portico_server.api.auth.oidc import TokenVerifier, terminal_clients
from portico_server.api.origins import UNCHECKED, refuse_proxied
from portico_server.core.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    PorticoError,
    Unauthenticated,
    Unavailable,
)
from portico_server.core.ids import new_id
from portico_server.core.limits import KeyLimits
from portico_server.core.names import check_plain
from portico_server.core.principal import LOCAL, Principal, parse_scope
from portico_server.core.roles import Role
from portico_server.db import files, keys
from portico_server.db.database import Database
from portico_server.db.keys import KeyRow
from portico_server.runs.quotas import Quotas
from portico_server.settings import MB_BYTES, Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

NAME_LENGTH = 100

NO_LIMITS = KeyLimits()


class GivenKey(Protocol):
    """A key from the configuration file, whose secret the operator chose."""

    @property
    def name(self) -> str: ...

    @property
    def key(self) -> str: ...

    @property
    def scopes(self) -> tuple[str, ...]: ...

    @property
    def limits(self) -> KeyLimits: ...

    @property
    def filters(self) -> Mapping[str, Any]: ...

    @property
    def groups(self) -> tuple[str, ...]: ...


class Auth:
    """The keys in memory, backed by database rows. `create` and `revoke` take effect before they return."""

    def __init__(self, database: Database, settings: Settings, quotas: Quotas, tokens: TokenVerifier) -> None:
        self._database = database
        self.keys = KeyTable(database, quotas)
        self.grants = Grants(database, self.keys)
        self.identities = Identities(database, self.keys, tokens)
        self._settings = settings
        self._operator = hash_of(settings.api_key) if settings.api_key else ""
        # Derived from the operator's key, which the database does not contain. Daemons that share the
        # operator's key and the database accept each other's signatures.
        self._pepper = settings.api_key.encode() or secrets.token_bytes(32)
        self._issued_ids: set[str] = set()
        self.revoked: list[Callable[[str], Awaitable[None]]] = [self.grants.forget_all]
        """Callbacks that receive the id of a key that was revoked or lost rights. They run concurrently, before
        `revoke` or `change` returns. Each callback ends the key's work in one part of the daemon.
        """
        self._ending: set[asyncio.Task[Any]] = set()
        """Tasks that end the work of keys. A task outlasts the caller that started it, who may disconnect or lose its
        own key in the meantime.
        """

    async def start(self, given_keys: Iterable[GivenKey] = (), roles: Sequence[Role] = ()) -> None:
        """Load the keys, add the keys from the configuration file, and refuse to serve other machines without a key
        (`refuse_open_start`).

        ``roles`` are the roles of users who sign in.
        """
        self.identities.start(roles)
        for row in await self._database.read(keys.living):
            self.keys.admit(row)
        for key in given_keys:
            row = KeyRow(
                f"config:{key.name}",
                key.name,
                hash_of(key.key),
                key.key[-4:],
                tuple(key.scopes),
                time.time(),
                key.limits.to_json(),
                checked_filters(key.filters, key.scopes),
                groups=checked_groups(key.groups),
            )
            self._issued_ids.add(row.id)
            self.keys.admit(row)
        await self.keys.resume(self.keys.list())
        await self.grants.refresh()
        refuse_open_start(self._settings, has_keys=bool(self.identities.issuers or self.keys))

    async def refresh(self) -> None:
        """Apply the key changes of other daemons on the same database, and end the calls of keys that those daemons
        revoked.
        """
        known_keys, changes = None, -1
        while (
            changes != self.keys.changes_count
        ):  # keys created in this daemon while reading must not look deleted
            changes = self.keys.changes_count
            known_keys = {row.id: row for row in await self._database.read(keys.living)}
        assert known_keys is not None
        removed_ids = [
            row_id for row_id in self.keys if row_id not in known_keys and row_id not in self._issued_ids
        ]
        limited_keys = [row for row in known_keys.values() if self.keys.update(row)]
        # Apply all changes before the first await: a change that this daemon makes later is newer than the
        # rows that were read.
        narrowed_ids = [row_id for row_id, row in known_keys.items() if self.keys.take_over(row)]
        failures: list[PorticoError] = []
        for row_id, end in (
            *((key_id, self._expel) for key_id in removed_ids),
            *((key_id, self._end) for key_id in narrowed_ids),
        ):
            try:
                await end(row_id)
            except PorticoError as error:  # the calls of the other keys must end too
                failures.append(error)
        await self.keys.resume(limited_keys)
        if failures:
            raise failures[0]

    async def create(
        self,
        name: str,
        scopes: Sequence[str],
        limits: KeyLimits = NO_LIMITS,
        filters: Mapping[str, Any] | None = None,
        groups: Sequence[str] = (),
    ) -> tuple[KeyRow, str]:
        """Create a key. Return its row and its secret, which is not stored. ``filters``: see `checked_filters`."""
        name = name.strip()
        check_plain(name, "a key")
        if not name or len(name) > NAME_LENGTH:
            raise InvalidRequest(f"A key needs a name of 1 to {NAME_LENGTH} characters.", param="name")
        checked_scopes = _checked_scopes(scopes)
        secret = PREFIX + secrets.token_urlsafe(32)
        row = KeyRow(
            id=new_id("key_"),
            name=name,
            hash=hash_of(secret),
            hint=secret[-4:],
            scopes=checked_scopes,
            created_at=time.time(),
            limits=limits.to_json(),
            filters=checked_filters(filters, scopes),
            groups=checked_groups(groups),
        )
        await self._database.write(keys.add, row)
        self.keys.changes_count += 1
        self.keys.admit(row)
        return row, secret

    async def change(
        self,
        key_id: str,
        *,
        scopes: Sequence[str] | None = None,
        filters: Mapping[str, Any] | None = None,
        limits: KeyLimits | None = None,
        groups: Sequence[str] | None = None,
    ) -> KeyRow:
        """Change the scopes, filters, limits or groups of a key immediately; ``None`` leaves a value unchanged.

        Unless the key keeps all its rights, its work in progress ends as it does in `revoke`, because the work began
        with rights that the key no longer has. Raise `NotFound` if no key has this id.
        """
        return await self._to_the_end(self._change(key_id, scopes, filters, limits, groups))

    async def _change(
        self,
        key_id: str,
        scopes: Sequence[str] | None,
        filters: Mapping[str, Any] | None,
        limits: KeyLimits | None,
        groups: Sequence[str] | None,
    ) -> KeyRow:
        self._require_changeable(key_id)
        row = self.keys.get(key_id)
        if row is None:
            raise _unknown(key_id)
        if row.issuer:
            raise Conflict(
                f"'{key_id}' is a user who signs in: the roles in the configuration file define the user's "
                "rights. Change the roles and restart the daemon, or revoke the user's access."
            )
        new_scopes = row.scopes if scopes is None else _checked_scopes(scopes)
        bound = checked_filters(row.filters if filters is None else filters, new_scopes)
        changes: dict[str, Any] = {
            "scopes": None if scopes is None else new_scopes,
            "filters": None if filters is None else bound,
            "limits": None if limits is None else limits.to_json(),
            "groups": None if groups is None else checked_groups(groups),
        }
        changes = {name: value for name, value in changes.items() if value is not None}
        if not await self._database.write(keys.change, key_id, **changes):
            raise _unknown(key_id)
        self.keys.changes_count += 1
        # Based on the current row: another change that ended during the write must not be undone.
        row = replace(self.keys.get(key_id) or row, **changes)
        begins = key_id in self.keys and self.keys.hold(row)
        if self.keys.take_over(row):
            await self._end(key_id)
        if begins:
            await self.keys.resume([row])
        return row

    async def revoke(self, key_id: str) -> None:
        """Revoke a key or a grant immediately. Raise `NotFound` if neither has this id, or `Unavailable` if some of
        the key's work did not end.
        """
        await self._to_the_end(self._revoke(key_id))

    async def _revoke(self, key_id: str) -> None:
        if key_id in self.grants:
            await self.grants.revoke(key_id)
            return
        self._require_changeable(key_id)
        if not await self._database.write(keys.revoke, key_id, time.time()):
            raise _unknown(key_id)
        self.keys.changes_count += 1
        await self._expel(key_id)

    async def list_blocked(self) -> Sequence[KeyRow]:
        """Return the users whose sign-in is blocked."""
        return await self._database.read(keys.blocked_identities)

    async def unblock(self, key_id: str) -> KeyRow:
        """Unblock a user's sign-in. The user has no rights until the next sign-in. Raise `NotFound` if no blocked user
        has this id.
        """
        if not await self._database.write(keys.unblock, key_id):
            raise NotFound(
                f"No blocked user has the id '{key_id}'. A revoked key cannot be restored; create a new key.",
                code="key_not_found",
                param="id",
            )
        self.keys.changes_count += 1
        await self.refresh()
        row = self.keys.get(key_id)
        if row is None:
            raise Conflict(f"'{key_id}' was blocked again in the meantime.")
        return row

    def _require_changeable(self, key_id: str) -> None:
        if key_id in self._issued_ids:
            raise Conflict(
                f"The key '{key_id}' comes from the configuration file; change the key in the file and "
                "restart the daemon."
            )

    async def _expel(self, key_id: str) -> None:
        """Forget a revoked key and end its work in progress."""
        self.keys.remove(key_id)
        await self._end(key_id)

    async def _end(self, key_id: str) -> None:
        self.identities.forget(key_id)
        errors = await asyncio.gather(*(end(key_id) for end in self.revoked), return_exceptions=True)
        failures = [error for error in errors if isinstance(error, BaseException)]
        for failure in failures:
            logger.error("some work of the key %s could not be ended", key_id, exc_info=failure)
        if failures:
            raise Unavailable(
                "The key no longer has its previous rights, but some of its work in progress could not be "
                "ended; the log gives the reason. Restart the daemon to end the rest.",
                code="not_all_ended",
            )

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to completion, even if its caller is cancelled."""
        task = asyncio.create_task(work, name="end of a key")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return await asyncio.shield(task)

    def identify(self, secret: str | None, *, proxy_sign: str = UNCHECKED) -> Principal:
        """Return the caller that presents ``secret``, or no secret. Raises `Unauthenticated`.

        On loopback no key is needed unless the settings require one: a process that can connect can also read the home
        folder. The clients of a proxy cannot, so a request with a ``proxy_sign`` needs a key. An unknown key is refused
        even on loopback, so that clients notice when their key was revoked. Before the first key is created, any word
        that does not look like a Portico key counts as no key.
        """
        if secret:
            digest = hash_of(secret)
            caller = self.keys.caller(
                digest
            )  # a lookup by hash, so its timing reveals nothing about a secret
            if caller is not None:
                return caller
            if self._operator and hmac.compare_digest(digest, self._operator):
                return OPERATOR
            if not self._accepts_without_key(secret):
                raise Unauthenticated(self._unknown_key())
        if self.needs_key:
            signs_in = " Or sign in with 'portico login'." if terminal_clients(self._settings) else ""
            raise Unauthenticated(
                "This daemon requires an API key. Send it as 'Authorization: Bearer pk-…'; the operator "
                f"creates keys with 'portico keys create'.{signs_in}{self._why_public()}",
                code="missing_api_key",
            )
        refuse_proxied(proxy_sign)
        return LOCAL

    def signing_key(self, owner: str) -> bytes:
        """Return the secret with which the key with this id signs. It is valid until the key is revoked.

        The secret cannot be derived from the database alone. Raises `Forbidden` as `KeyTable.principal` does.
        """
        self.keys.principal(owner)
        row = self.keys.get(owner)
        secret_source = owner if row is None else row.hash
        return hmac.digest(self._pepper, secret_source.encode(), sha256)

    def storage_limit(self, owner: str) -> int:
        """Return how many bytes the key with this id may store on disk; 0 means no limit, as for the operator and
        admins.
        """
        row = self.keys.get(owner)
        if row is None or "admin" in row.scopes:
            return 0
        return (row.limits.get("storage_mb") or self._settings.storage_per_key_mb) * MB_BYTES

    async def stored_bytes(self, key_ids: Sequence[str] | None = None) -> Mapping[str, int]:
        """Return how many bytes each key stores on disk, keyed by key id; by default for all keys."""
        return await self._database.read(files.stored_by_owner, key_ids)

    def _why_public(self) -> str:
        """Return why this machine needs a key too, if the reason is the public address."""
        settings = self._settings
        if not (_is_public(settings) and settings.loopback) or settings.require_key or settings.api_key:
            return ""
        return (
            " The reason is the setting public_url: a proxy forwards requests to this daemon. If the proxy "
            "authenticates its users, set trust_local_proxy."
        )

    def _unknown_key(self) -> str:
        """Return why a secret sent as a key is refused, and what to send instead."""
        make = "'portico keys create --name NAME --scope chat'"
        if self.has_no_key:
            return f"Unknown API key; it may have been revoked. The operator creates keys with {make}."
        passes = (
            "" if self.needs_key else f" On this machine, '{PLACEHOLDER}' or no key at all is also accepted."
        )
        return (
            "This daemon requires a valid key, and yours is unknown or was revoked: send a key that the "
            f"operator created with {make}.{passes}"
        )

    @property
    def needs_key(self) -> bool:
        """Return whether every caller must send a key."""
        by_settings = bool(self._operator) or self._settings.require_key or not self._settings.loopback
        return by_settings or bool(self.identities.issuers) or _is_public(self._settings)

    @property
    def has_no_key(self) -> bool:
        """Return whether no key exists and none is required, so that programs on this machine have all rights."""
        return not (self.needs_key or self.keys)

    def _accepts_without_key(self, secret: str) -> bool:
        if self.needs_key or secret.startswith(PREFIX):
            return False
        return secret == PLACEHOLDER or not self.keys


def _unknown(key_id: str) -> NotFound:
    return NotFound(f"The key '{key_id}' does not exist.", code="key_not_found", param="id")


def _checked_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    """Return the scopes without duplicates. Raise `InvalidRequest` if a scope does not exist or the list is empty."""
    if not scopes:
        raise InvalidRequest(
            "A key needs at least one scope, such as 'chat' or 'admin'.",
            code="missing_required_parameter",
            param="scopes",
        )
    return tuple(dict.fromkeys(parse_scope(scope) for scope in scopes))


def _is_public(settings: Settings) -> bool:
    """Return whether a proxy that does not authenticate its users forwards requests to the daemon."""
    return bool(settings.public_url) and not settings.trust_local_proxy


def refuse_open_start(settings: Settings, *, has_keys: bool) -> None:
    """Raise `InvalidRequest` if other machines can reach the daemon, directly or by ``public_url``, without a key."""
    if settings.api_key or has_keys:
        return
    if settings.loopback:
        if _is_public(settings) and not settings.require_key:
            raise InvalidRequest(
                f"The setting public_url ({settings.public_url}) says that other machines reach the daemon through "
                "a proxy, and no key exists yet. Set PORTICO_API_KEY, or start without public_url, create a key "
                "with 'portico keys create' and restart the daemon. If the proxy authenticates its users, set "
                "trust_local_proxy (PORTICO_TRUST_LOCAL_PROXY) instead.",
                code="open_proxy",
                param="public_url",
            )
        return
    raise InvalidRequest(
        f"Listening on {settings.host} exposes the daemon to other machines, and no key exists yet. Set "
        "PORTICO_API_KEY, or create a key with 'portico keys create' while the daemon listens on 127.0.0.1, "
        "and restart the daemon.",
        code="open_bind",
        param="host",
    )
