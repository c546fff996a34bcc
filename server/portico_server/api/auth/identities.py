"""Callers with issuer tokens. Each identity is also a key; its row is created when its first token arrives."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TypeGuard

from portico_server.api.auth.credentials import hash_of
from portico_server.api.auth.keys import MAX_GROUP_CHARS, MAX_GROUPS, KeyTable, checked_filters
from portico_server.api.auth.oidc import TokenVerifier, VerifiedToken, is_token
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Forbidden, InvalidRequest, nearest
from portico_server.core.filter import parse_bound
from portico_server.core.names import is_plain
from portico_server.core.principal import Principal
from portico_server.core.roles import Role, role_of
from portico_server.db import keys
from portico_server.db.database import Database
from portico_server.db.keys import KeyRow

IDENTITY_PREFIX = "user_"

MAX_TOKENS = 10_000
"""Maximum number of verified tokens kept in memory."""

TOKEN_TTL_S = 600.0
"""Time for which a verified token counts as valid before it is checked again, in seconds."""

SIGN_IN_INTERVAL_S = 3_600.0
"""Time after which a newer token of an identity is recorded even if it grants the same rights as the previous token,
in seconds.
"""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The caller that presents a token, the caller's role, the time when the token expires, and the time when it must
    be checked again.
    """

    caller: Principal
    expires_at: float
    checked_until: float
    role: str = ""


class Identities:
    """Finds the caller for a token. The row of an identity records the rights that its newest token granted."""

    def __init__(self, database: Database, table: KeyTable, tokens: TokenVerifier) -> None:
        self._database = database
        self._table = table
        self._tokens = tokens
        self._roles: Sequence[Role] = ()
        self._signed_in: OrderedDict[str, SignedIn] = OrderedDict()
        """Signed-in callers, keyed by the hash of their token."""

    @property
    def issuers(self) -> Collection[str]:
        """Return the issuers whose tokens are accepted."""
        return self._tokens.issuers

    def start(self, roles: Sequence[Role]) -> None:
        """Set the roles of users who sign in. Raise `InvalidRequest` for a role that no user could get."""
        self._tokens.check()
        if bool(roles) != bool(self._tokens.issuers):
            raise InvalidRequest(
                "The 'roles' of the configuration file define what users who sign in may do, but none are "
                "configured. Add roles, or remove oidc_issuer from the settings."
                if self._tokens.issuers
                else "'roles' apply to users who sign in. Set oidc_issuer (PORTICO_OIDC_ISSUER) to the "
                "address of your issuer, or remove the roles.",
                param="roles" if self._tokens.issuers else "oidc_issuer",
            )
        for role in roles:
            checked_filters(role.filters, role.scopes, "roles")
            if role.issuer and role.issuer not in self._tokens.issuers:
                raise InvalidRequest(
                    f"The role '{role.name}' is for the issuer '{role.issuer[:200]}', which oidc_issuer does "
                    f"not list, so no user would get this role.{nearest(role.issuer, self._tokens.issuers)} "
                    "Write the issuer exactly as in oidc_issuer, or omit it so that the role applies to all "
                    "issuers.",
                    param="roles",
                )
        self._roles = roles

    def is_token(self, secret: str | None) -> TypeGuard[str]:
        """Return whether a secret is an issuer token that `sign_in` accepts."""
        return secret is not None and bool(self._tokens.issuers) and is_token(secret)

    async def sign_in(self, token: str) -> SignedIn:
        """Return the caller that presents an issuer token.

        Raise `Unauthenticated`, `Forbidden` if the caller has no rights on this daemon, or `Unavailable` if the token
        cannot be checked.
        """
        digest = hash_of(token)
        signed_in = self._signed_in.get(digest)
        now = time.time()
        if signed_in is not None and now < signed_in.checked_until:
            self._signed_in.move_to_end(digest)
            return signed_in
        verified_token = await self._tokens.verify(token)
        role = role_of(self._roles, verified_token.issuer, verified_token.claims)
        caller = await self._identity(verified_token, role)
        checked_until = min(verified_token.expires_at, now + TOKEN_TTL_S)
        signed_in = SignedIn(
            caller, verified_token.expires_at, checked_until, "" if role is None else role.name
        )
        self._signed_in[digest] = signed_in
        if len(self._signed_in) > MAX_TOKENS:
            self._signed_in.popitem(last=False)
        return signed_in

    def forget(self, key_id: str) -> None:
        """Forget the verified tokens of an identity, so that they are checked again."""
        for token in [token for token, signed_in in self._signed_in.items() if signed_in.caller.id == key_id]:
            del self._signed_in[token]

    async def _identity(self, token: VerifiedToken, role: Role | None) -> Principal:
        """Return the caller of a token with the rights of its role. Record the token if it changes what the
        database has.
        """
        identity_hash = sha256(f"{token.issuer}\0{token.subject}".encode()).hexdigest()
        row = KeyRow(
            id=IDENTITY_PREFIX + identity_hash[:32],
            name=token.name,
            hash=f"identity:{identity_hash}",  # not the hash of any secret
            hint="",
            scopes=() if role is None else tuple(dict.fromkeys(role.scopes)),
            created_at=time.time(),
            limits={} if role is None else role.limits.to_json(),
            filters={} if role is None else checked_filters(role.filters, role.scopes),
            issuer=token.issuer,
            subject=token.subject,
            signed_in_at=token.issued_at,
            groups=_groups(token),
        )
        key = self._table.get(row.id)
        if (key is None and role is not None) or (key is not None and _is_news(row, key)):
            if not await self._database.write(keys.sign_in, row):
                raise _expiry_error()
            self._table.changes_count += 1
            if self._table.admit(row if key is None else replace(row, created_at=key.created_at)):
                await self._table.resume([row])
                if row.id not in self._table:  # revoked meanwhile
                    raise _expiry_error()
        if role is None:
            raise Forbidden(
                "You are signed in but have none of this daemon's roles. Ask the operator for a role, then "
                "sign in again.",
                code="no_role",
            )
        return Principal(row.id, frozenset(row.scopes), parse_bound(row.filters), frozenset(row.groups))


def _groups(token: VerifiedToken) -> tuple[str, ...]:
    """Return the first `MAX_GROUPS` groups in the claim ``groups`` of a token. Values that cannot be groups are left
    out, because no source can mean them.
    """
    claim = token.claims.get("groups")
    groups = claim if isinstance(claim, list) else [claim]
    usable_groups = {
        group
        for group in groups
        if isinstance(group, str) and 1 <= len(group) <= MAX_GROUP_CHARS and is_plain(group)
    }
    return tuple(sorted(usable_groups)[:MAX_GROUPS])


def _expiry_error() -> Forbidden:
    return Forbidden(
        "The operator has revoked your access, and a new token does not restore it. Ask the operator to "
        "restore it.",
        code="key_revoked",
    )


def _is_news(row: KeyRow, key: KeyRow) -> bool:
    """Return whether a newer token grants an identity rights that differ from the recorded rights, or was issued much
    later.
    """
    later = (row.signed_in_at or 0) - (key.signed_in_at or 0)
    is_unchanged = (row.name, row.scopes, row.limits, row.filters, row.groups) == (
        key.name,
        key.scopes,
        key.limits,
        key.filters,
        key.groups,
    )
    return later >= (SIGN_IN_INTERVAL_S if is_unchanged else 0)
