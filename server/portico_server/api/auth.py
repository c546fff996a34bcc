"""Who is calling: keys, scopes, and when none is needed. Every protocol adapter gets its callers from here."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from hashlib import sha256
from typing import Any, Protocol, TypeGuard, TypeVar

import orjson

from portico_server.api.oidc import TokenVerifier, VerifiedToken, is_token, terminal_clients
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    PorticoError,
    Unauthenticated,
    Unavailable,
    nearest,
)
from portico_server.core.ids import new_id
from portico_server.core.limits import KeyLimits
from portico_server.core.names import check_plain
from portico_server.core.principal import LOCAL, SYSTEM, Principal, parse_scope
from portico_server.core.roles import Role, role_of
from portico_server.db import files, keys, usage
from portico_server.db.database import Database
from portico_server.db.keys import KeyRow
from portico_server.db.usage import DAY_S
from portico_server.knowledge.filter import parse_bound, to_json
from portico_server.runs.quotas import MINUTE_S, Quotas
from portico_server.settings import MB_BYTES, Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

PREFIX = "pk-"
"""What every key begins with, so that secret scanners and people recognise one."""

PLACEHOLDER = "local"
"""What OpenAI clients, which insist on a key, may send to a daemon that needs none."""

OPERATOR = Principal("operator", frozenset({"admin"}))
"""Whoever holds the key from the settings."""

NAME_LENGTH = 100

IDENTITY_PREFIX = "user_"

MAX_TOKENS = 10_000
"""Tokens that are known to be right."""

TOKEN_TTL_S = 600.0
"""Seconds for which a token is known to be right; then it is checked again."""

SIGN_IN_INTERVAL_S = 3_600.0
"""Seconds after which a newer token of an identity is written down, if it gives nothing else than the one before."""

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


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who presents a token, in which role, when that expires, and until when it need not be checked again."""

    caller: Principal
    expires_at: float
    checked_until: float
    role: str = ""


class Auth:
    """Keys in memory, rows behind them: what `create` and `revoke` do holds from their return on.

    ``quotas`` holds the keys to their limits. Somebody who signs in by an issuer, as ``tokens`` finds, is a key too:
    its row is made at the first token, and says what the newest one gave.
    """

    def __init__(self, database: Database, settings: Settings, quotas: Quotas, tokens: TokenVerifier) -> None:
        self._database = database
        self._quotas = quotas
        self._tokens = tokens
        self._roles: Sequence[Role] = ()
        self._signed_in: OrderedDict[str, SignedIn] = OrderedDict()
        """By the hash of a token."""
        self._settings = settings
        self._operator = hash_of(settings.api_key) if settings.api_key else ""
        # With the operator's key, which the database does not have, daemons that share both know each other's.
        self._pepper = settings.api_key.encode() or secrets.token_bytes(32)
        self._rows: dict[str, KeyRow] = {}
        self._callers: dict[str, Principal] = {}
        self._given: set[str] = set()
        self._changes_count = 0
        """How often keys were made or revoked here."""
        self.revoked: list[Callable[[str], Awaitable[None]]] = []
        """Called with the id of a key that was revoked or lost rights, before `revoke` or `change` returns, all at the
        same time; each ends what one part of the daemon does for that key.
        """
        self._ending: set[asyncio.Task[Any]] = set()
        """Ends of keys under way: whoever asked for one may be gone, or lose their own key meanwhile."""

    async def start(self, given: Iterable[GivenKey] = (), roles: Sequence[Role] = ()) -> None:
        """Read the keys, add those of the configuration, and refuse an open bind (`refuse_open_bind`).

        ``roles``: what those get who sign in.
        """
        self._tokens.check()
        if bool(roles) != bool(self._tokens.issuers):
            raise InvalidRequest(
                "Whoever signs in gets what 'roles' of the configuration file say, and there are none. Add some, or "
                "take oidc_issuer out of the settings."
                if self._tokens.issuers
                else "'roles' are for those who sign in. Set oidc_issuer (PORTICO_OIDC_ISSUER) to the address of your "
                "issuer, or take them out.",
                param="roles" if self._tokens.issuers else "oidc_issuer",
            )
        for role in roles:
            checked_filters(role.filters, role.scopes, "roles")
            if role.issuer and role.issuer not in self._tokens.issuers:
                raise InvalidRequest(
                    f"The role '{role.name}' is for the issuer '{role.issuer[:200]}', which oidc_issuer does not name, "
                    f"so nobody would ever get it.{nearest(role.issuer, self._tokens.issuers)} Write it exactly as "
                    "there, or leave it out, and the role is for all of them.",
                    param="roles",
                )
        self._roles = roles
        for row in await self._database.read(keys.living):
            self._admit(row)
        for key in given:
            row = KeyRow(
                f"config:{key.name}",
                key.name,
                hash_of(key.key),
                key.key[-4:],
                tuple(key.scopes),
                time.time(),
                key.limits.to_json(),
                checked_filters(key.filters, key.scopes),
            )
            self._given.add(row.id)
            self._admit(row)
        await self._resume(self._rows.values())
        refuse_open_bind(self._settings, has_keys=bool(self._tokens.issuers or self._rows))

    async def refresh(self) -> None:
        """Take over what other daemons on the same database did with keys, and end the calls of those they revoked."""
        known, changes = None, -1
        while changes != self._changes_count:  # what is made here meanwhile must not seem to be gone
            changes = self._changes_count
            known = {row.id: row for row in await self._database.read(keys.living)}
        assert known is not None
        gone = [row_id for row_id in self._rows if row_id not in known and row_id not in self._given]
        limited = [
            row
            for row_id, row in known.items()
            if (
                self._admit(row)
                if row_id not in self._rows or self._rows[row_id].signed_in_at != row.signed_in_at
                else self._hold(row)
            )
        ]
        # All of it before anything is awaited: what is changed here meanwhile is newer.
        narrowed = [row_id for row_id, row in known.items() if self._take_over(row)]
        failures: list[PorticoError] = []
        for row_id, end in (*((one, self._expel) for one in gone), *((one, self._end) for one in narrowed)):
            try:
                await end(row_id)
            except PorticoError as error:  # the others end all the same
                failures.append(error)
        await self._resume(limited)
        if failures:
            raise failures[0]

    async def _resume(self, rows: Iterable[KeyRow]) -> None:
        """Count what keys used before they got their limits: in the last minute, and today."""
        now = time.time()
        for row in rows:
            meter = self._quotas.of(row.id)
            if meter is not None:
                requests, tokens = await self._database.read(usage.spent, row.id, now - MINUTE_S)
                _, today = await self._database.read(usage.spent, row.id, now - now % DAY_S)
                meter.resume(requests=requests, tokens=tokens, spent=today)

    def list(self) -> Sequence[KeyRow]:
        """The keys that work, oldest first."""
        return sorted(self._rows.values(), key=lambda row: row.created_at)

    async def create(
        self,
        name: str,
        scopes: Sequence[str],
        limits: KeyLimits = NO_LIMITS,
        filters: Mapping[str, Any] | None = None,
    ) -> tuple[KeyRow, str]:
        """A new key: its row, and the secret, which exists nowhere else. ``filters``: see `checked_filters`."""
        name = name.strip()
        check_plain(name, "a key")
        if not name or len(name) > NAME_LENGTH:
            raise InvalidRequest(f"A key needs a name of 1 to {NAME_LENGTH} characters.", param="name")
        checked = _checked_scopes(scopes)
        secret = PREFIX + secrets.token_urlsafe(32)
        row = KeyRow(
            id=new_id("key_"),
            name=name,
            hash=hash_of(secret),
            hint=secret[-4:],
            scopes=checked,
            created_at=time.time(),
            limits=limits.to_json(),
            filters=checked_filters(filters, scopes),
        )
        await self._database.write(keys.add, row)
        self._changes_count += 1
        self._admit(row)
        return row, secret

    async def change(
        self,
        key_id: str,
        *,
        scopes: Sequence[str] | None = None,
        filters: Mapping[str, Any] | None = None,
        limits: KeyLimits | None = None,
    ) -> KeyRow:
        """Let a key have other scopes, filters or limits, now; ``None`` leaves them. Unless the key may do and read all
        that it could before, what it has under way is ended as by `revoke`: it began with rights that the key has no
        more. `NotFound` if there is none of this id.
        """
        return await self._to_the_end(self._change(key_id, scopes, filters, limits))

    async def _change(
        self,
        key_id: str,
        scopes: Sequence[str] | None,
        filters: Mapping[str, Any] | None,
        limits: KeyLimits | None,
    ) -> KeyRow:
        self._require_changeable(key_id)
        row = self._rows.get(key_id)
        if row is None:
            raise _unknown(key_id)
        if row.issuer:
            raise Conflict(
                f"'{key_id}' is somebody who signs in: what they may do, roles of the configuration file say. "
                "Change those and start again, or end them here."
            )
        given = row.scopes if scopes is None else _checked_scopes(scopes)
        bound = checked_filters(row.filters if filters is None else filters, given)
        held = row.limits if limits is None else limits.to_json()
        written = (
            None if scopes is None else given,
            None if filters is None else bound,
            None if limits is None else held,
        )
        if not await self._database.write(keys.change, key_id, *written):
            raise _unknown(key_id)
        self._changes_count += 1
        row = replace(row, scopes=given, filters=bound, limits=held)
        begins = key_id in self._rows and self._hold(row)
        if self._take_over(row):
            await self._end(key_id)
        if begins:
            await self._resume([row])
        return row

    def _hold(self, row: KeyRow) -> bool:
        """Hold a key to the limits of a row that it is about to have; whether what it used must be counted for them."""
        known = self._rows.get(row.id)
        if known is not None and known.limits == row.limits:
            return False
        return self._quotas.change(row.id, row.name, KeyLimits.parse(row.limits).usage)

    def _take_over(self, row: KeyRow) -> bool:
        """Take over what a key that is known may do, read and use; whether it may do or read less than before."""
        before = self._rows.get(row.id)
        if before is None:  # it was revoked meanwhile
            return False
        held, bound = _written(before.filters), _written(row.filters)
        self._rows[row.id] = row
        if before.scopes == row.scopes and held == bound:
            return False
        caller = self._callers[row.hash] = _principal(row)
        return not all(map(caller.allows, before.scopes)) or not bound <= held

    async def revoke(self, key_id: str) -> None:
        """End a key, now. `NotFound` if there is none of this id; `Unavailable` if something of it did not end."""
        await self._to_the_end(self._revoke(key_id))

    async def _revoke(self, key_id: str) -> None:
        self._require_changeable(key_id)
        if not await self._database.write(keys.revoke, key_id, time.time()):
            raise _unknown(key_id)
        self._changes_count += 1
        await self._expel(key_id)

    async def blocked(self) -> Sequence[KeyRow]:
        """Those who signed in and are kept out now."""
        return await self._database.read(keys.blocked)

    async def unblock(self, key_id: str) -> KeyRow:
        """Let somebody sign in again who was kept out; until then they may do nothing. `NotFound` if nobody of this id
        is.
        """
        if not await self._database.write(keys.unblock, key_id):
            raise NotFound(
                f"Nobody who signs in is kept out as '{key_id}'. A key that was revoked stays so; make another one.",
                code="key_not_found",
                param="id",
            )
        self._changes_count += 1
        await self.refresh()
        row = self._rows.get(key_id)
        if row is None:
            raise Conflict(f"'{key_id}' was kept out again just now.")
        return row

    def row(self, key_id: str) -> KeyRow | None:
        """The key with this id, if it is one that works."""
        return self._rows.get(key_id)

    def _require_changeable(self, key_id: str) -> None:
        if key_id in self._given:
            raise Conflict(
                f"The key '{key_id}' comes from the configuration file; change it there and start again."
            )

    async def _expel(self, key_id: str) -> None:
        """End what a key that was revoked has under way."""
        row = self._rows.pop(key_id, None)
        if row is not None:
            self._callers.pop(row.hash, None)
            self._quotas.forget(row.id)
        await self._end(key_id)

    async def _end(self, key_id: str) -> None:
        for token in [token for token, one in self._signed_in.items() if one.caller.id == key_id]:
            del self._signed_in[token]
        ended = await asyncio.gather(*(end(key_id) for end in self.revoked), return_exceptions=True)
        failures = [one for one in ended if isinstance(one, BaseException)]
        for failure in failures:
            logger.error("something of the key %s could not be ended", key_id, exc_info=failure)
        if failures:
            raise Unavailable(
                "The key may do nothing more, but not all that it had under way could be ended; the log says why. "
                "Start the daemon again to end the rest.",
                code="not_all_ended",
            )

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Do what must not stop halfway, whatever becomes of whoever asked for it."""
        task = asyncio.create_task(work, name="end of a key")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return await asyncio.shield(task)

    def identify(self, secret: str | None) -> Principal:
        """The caller who presents ``secret``, or nothing. Raises `Unauthenticated`.

        On loopback nobody needs a key unless the settings say so: whoever can connect can also read the home
        folder. A wrong key is refused even there, so that a revoked one is seen to be revoked; before the
        first key is made, any word that does not look like one of ours passes for no key.
        """
        if secret:
            digest = hash_of(secret)
            caller = self._callers.get(digest)  # of a hash, so the time it takes says nothing about a secret
            if caller is not None:
                return caller
            if self._operator and hmac.compare_digest(digest, self._operator):
                return OPERATOR
            if not self._accepts_without_key(secret):
                raise Unauthenticated(self._unknown_key())
        if self._needs_key:
            signs_in = " Or sign in with 'portico login'." if terminal_clients(self._settings) else ""
            raise Unauthenticated(
                "This daemon needs an API key. Send one as 'Authorization: Bearer pk-…'; the operator makes "
                f"one with 'portico keys create'.{signs_in}",
                code="missing_api_key",
            )
        return LOCAL

    def is_token(self, secret: str | None) -> TypeGuard[str]:
        """Whether a secret is for `sign_in`."""
        return secret is not None and bool(self._tokens.issuers) and is_token(secret)

    async def sign_in(self, token: str) -> SignedIn:
        """Who presents a token of an issuer. Raises `Unauthenticated`, `Forbidden` for somebody who may do nothing
        here, and `Unavailable` where it cannot be checked.
        """
        digest = hash_of(token)
        known = self._signed_in.get(digest)
        now = time.time()
        if known is not None and now < known.checked_until:
            self._signed_in.move_to_end(digest)
            return known
        found = await self._tokens.verify(token)
        role = role_of(self._roles, found.issuer, found.claims)
        caller = await self._identity(found, role)
        checked_until = min(found.expires_at, now + TOKEN_TTL_S)
        known = SignedIn(caller, found.expires_at, checked_until, "" if role is None else role.name)
        self._signed_in[digest] = known
        if len(self._signed_in) > MAX_TOKENS:
            self._signed_in.popitem(last=False)
        return known

    async def _identity(self, token: VerifiedToken, role: Role | None) -> Principal:
        """Whom a token stands for, with what its role gives; written down if that is news."""
        named = sha256(f"{token.issuer}\0{token.subject}".encode()).hexdigest()
        row = KeyRow(
            id=IDENTITY_PREFIX + named[:32],
            name=token.name,
            hash=f"identity:{named}",  # which the hash of no secret is
            hint="",
            scopes=() if role is None else tuple(dict.fromkeys(role.scopes)),
            created_at=time.time(),
            limits={} if role is None else role.limits.to_json(),
            filters={} if role is None else checked_filters(role.filters, role.scopes),
            issuer=token.issuer,
            subject=token.subject,
            signed_in_at=token.issued_at,
        )
        known = self._rows.get(row.id)
        if (known is None and role is not None) or (known is not None and _is_news(row, known)):
            if not await self._database.write(keys.sign_in, row):
                raise _ended()
            self._changes_count += 1
            if self._admit(row if known is None else replace(row, created_at=known.created_at)):
                await self._resume([row])
                if row.id not in self._rows:  # revoked meanwhile
                    raise _ended()
        if role is None:
            raise Forbidden(
                "You are signed in, but none of the roles of this daemon is yours. Ask its operator for one, and sign "
                "in again.",
                code="no_role",
            )
        return Principal(row.id, frozenset(row.scopes), parse_bound(row.filters))

    def principal(self, owner: str) -> Principal:
        """The caller that the id of a key stands for now. Raises `Forbidden` if that key was revoked."""
        for known in (LOCAL, OPERATOR, SYSTEM):
            if owner == known.id:
                return known
        row = self._rows.get(owner)
        if row is None:
            raise Forbidden(f"The key '{owner}' that this belongs to was revoked.", code="key_revoked")
        return self._callers[row.hash]

    def signing_key(self, owner: str) -> bytes:
        """What signs for the key with this id, until it is revoked. Who has only the database cannot know it. Raises
        `Forbidden` as `principal` does.
        """
        self.principal(owner)
        row = self._rows.get(owner)
        named = owner if row is None else row.hash
        return hmac.digest(self._pepper, named.encode(), sha256)

    def storage_limit(self, owner: str) -> int:
        """How many bytes the key with this id may keep on the disk; 0: any number, as the operator and admins may."""
        row = self._rows.get(owner)
        if row is None or "admin" in row.scopes:
            return 0
        return (row.limits.get("storage_mb") or self._settings.storage_per_key_mb) * MB_BYTES

    async def stored(self) -> Mapping[str, int]:
        """How many bytes each key keeps on the disk, by its id."""
        return await self._database.read(files.stored_by_owner)

    def filtered(self, *stores: str) -> Sequence[str]:
        """The names of the keys that have a filter on one of the ``stores``, by name or id."""
        return [row.name for row in self._rows.values() if not row.filters.keys().isdisjoint(stores)]

    def _unknown_key(self) -> str:
        """Why a word that was sent as a key is refused, and what to send."""
        make = "'portico keys create --name NAME --scope chat'"
        if not (self._rows or self._needs_key):
            return f"This API key is not known here; it may have been revoked. The operator makes one with {make}."
        passes = (
            "" if self._needs_key else f" On this machine '{PLACEHOLDER}', or no key at all, is taken too."
        )
        return (
            "This daemon has keys, and what you sent as one is not known here or was revoked: send one that its "
            f"operator made with {make}.{passes}"
        )

    @property
    def _needs_key(self) -> bool:
        by_settings = bool(self._operator) or self._settings.require_key or not self._settings.loopback
        return by_settings or bool(self._tokens.issuers)

    def _accepts_without_key(self, secret: str) -> bool:
        if self._needs_key or secret.startswith(PREFIX):
            return False
        return secret == PLACEHOLDER or not self._rows

    def _admit(self, row: KeyRow) -> bool:
        """Take over a row; whether what it used must be counted for its limits."""
        begins = self._hold(row)
        self._rows[row.id] = row
        self._callers[row.hash] = _principal(row)
        return begins


def _unknown(key_id: str) -> NotFound:
    return NotFound(f"There is no key '{key_id}'.", code="key_not_found", param="id")


def _ended() -> Forbidden:
    return Forbidden(
        "The operator has ended what you may do here, whatever token you bring. Ask them to let you in again.",
        code="key_revoked",
    )


def _is_news(row: KeyRow, known: KeyRow) -> bool:
    """Whether a newer token gives an identity something else than what is known, or was issued much later."""
    later = (row.signed_in_at or 0) - (known.signed_in_at or 0)
    same = (row.name, row.scopes, row.limits, row.filters) == (
        known.name,
        known.scopes,
        known.limits,
        known.filters,
    )
    return later >= (SIGN_IN_INTERVAL_S if same else 0)


def _written(filters: Mapping[str, Any]) -> Set[tuple[str, bytes]]:
    """Filters as they can be compared: to Python, ``1`` and ``true`` are the same."""
    return {(store, orjson.dumps(item)) for store, item in filters.items()}


def _principal(row: KeyRow) -> Principal:
    return Principal(row.id, frozenset(row.scopes), parse_bound(row.filters))


def _checked_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    """The scopes, each once. Raises `InvalidRequest` for one that does not exist, and if there are none."""
    if not scopes:
        raise InvalidRequest(
            "A key needs at least one scope, such as 'chat' or 'admin'.",
            code="missing_required_parameter",
            param="scopes",
        )
    return tuple(dict.fromkeys(parse_scope(scope) for scope in scopes))


def checked_filters(
    filters: Mapping[str, Any] | None, scopes: Sequence[str], param: str = "filters"
) -> dict[str, Any]:
    """The filters of a key in their plain form: for each store, by name or id or ``*``, a filter on attributes.

    Raises `InvalidRequest` for what is none, and for those of an administrator, whom no filter would hold.
    """
    found = parse_bound(filters, param)
    if found and "admin" in scopes:
        raise InvalidRequest(
            "A key with the scope 'admin' sees everything, so it takes no filters. Give it the scopes that it needs, "
            "such as 'stores:handbook:read'.",
            param=param,
        )
    return {store: to_json(condition) for store, condition in found}


def refuse_open_bind(settings: Settings, *, has_keys: bool) -> None:
    """Raise `InvalidRequest` if others could reach the daemon and there is no key to keep them out."""
    if settings.loopback or settings.api_key or has_keys:
        return
    raise InvalidRequest(
        f"Listening on {settings.host} lets other machines in, and there is no key yet. Set PORTICO_API_KEY, "
        "or make a key with 'portico keys create' while the daemon listens on 127.0.0.1, and start again.",
        code="open_bind",
        param="host",
    )


def presented(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The key in raw HTTP headers: ``Authorization: Bearer KEY``, or ``x-api-key: KEY``.

    Raises `Unauthenticated` for another scheme, and for two keys that differ.
    """
    found: str | None = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.decode("latin-1").strip().partition(" ")
            if scheme.lower() != "bearer":
                raise Unauthenticated(
                    "The Authorization header must be 'Bearer pk-…'.", code="invalid_authorization_header"
                )
        elif name == b"x-api-key":
            key = value.decode("latin-1")
        else:
            continue
        key = key.strip()
        if found and key and key != found:
            raise Unauthenticated(
                "Two different API keys were sent; send one.", code="invalid_authorization_header"
            )
        found = key or found
    return found


def hash_of(secret: str) -> str:
    """By which a secret is known, here and in the database."""
    return sha256(secret.encode()).hexdigest()
