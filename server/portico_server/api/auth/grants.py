"""Grants: access that a person gives to an OAuth client. An access token is a key with the rights of the person's key,
narrowed to the granted scopes and to one resource.

Sources: OAuth 2.1 (draft-ietf-oauth-v2-1), RFC 8707 (resource indicators), RFC 9700 (best practices).
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import field, replace
from typing import Final

from portico_server.api.auth.credentials import PREFIX, hash_of
from portico_server.api.auth.keys import KeyTable
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Forbidden, Unauthenticated
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.db import grants
from portico_server.db.database import Database
from portico_server.db.grants import GrantRow, TokenHashes
from portico_server.db.oauth_clients import ClientRow

logger = logging.getLogger(__name__)

ACCESS_PREFIX: Final = f"{PREFIX}oauth-"
"""Prefix of access tokens. Secret scanners find them as they find keys."""

REFRESH_PREFIX: Final = "pr-"

DEFAULT_SCOPES: Final = ("chat", "stores:*:read", "apps:*:call", "tools:*:call")
"""The scopes of a client that requests none: enough to list and call over MCP."""


@dataclass(frozen=True, slots=True)
class GrantTokens:
    """Newly issued tokens of a grant."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    scopes: Sequence[str]


def narrow_scopes(caller: Principal, scopes: Sequence[str]) -> Sequence[str]:
    """Return the part of ``scopes`` that a caller has. ``admin`` is never part of a grant.

    A caller that has ``stores:docs:manage`` and requests ``stores:*:read`` gets ``stores:docs:read``.
    """
    narrowed: list[str] = []
    for scope in scopes:
        if scope == "admin":
            continue
        if caller.allows(scope):
            narrowed.append(scope)
            continue
        kind, name, action = (*scope.split(":"), "", "")[:3]
        if name == "*":
            own_names = sorted(item.split(":")[1] for item in caller.scopes if item.startswith(f"{kind}:"))
            narrowed += filter(caller.allows, (f"{kind}:{own_name}:{action}" for own_name in own_names))
    return tuple(dict.fromkeys(narrowed))


class Grants:
    """The grants whose tokens are in use, in memory, backed by database rows."""

    def __init__(self, database: Database, keys: KeyTable) -> None:
        self._database = database
        self._keys = keys
        self._rows: dict[str, GrantRow] = {}
        self._ids: dict[str, str] = {}
        """Ids of grants, keyed by the hash of their access token."""
        self._changes_count = 0
        self.end_callbacks: list[Callable[[str, str], Awaitable[None]]] = []
        """Callbacks that receive the owner and the id of an ended grant. Each callback ends calls that were made
        with the grant.
        """

    def __contains__(self, grant_id: str) -> bool:
        return grant_id in self._rows

    def list(self) -> Sequence[GrantRow]:
        """Return the grants whose owner still has a key, oldest first."""
        return [row for row in self._rows.values() if self._owner(row) is not None]

    async def refresh(self) -> None:
        """Read the grants, and end the calls of grants that another daemon has ended."""
        rows, changes_count = None, -1
        while changes_count != self._changes_count:  # a grant of this daemon must not look ended
            changes_count = self._changes_count
            rows = {row.id: row for row in await self._database.read(grants.living)}
        assert rows is not None
        ended_rows = [row for row in self._rows.values() if row.id not in rows]
        for row in rows.values():
            self._keep(row)
        for row in ended_rows:
            await self._forget(row)

    def _keep(self, row: GrantRow) -> None:
        previous = self._rows.get(row.id)
        if previous is not None and previous.access_hash is not None:
            self._ids.pop(previous.access_hash, None)
        self._rows[row.id] = row
        if row.access_hash is not None:
            self._ids[row.access_hash] = row.id

    async def _forget(self, row: GrantRow) -> None:
        if self._rows.pop(row.id, None) is None:
            return
        self._ids.pop(row.access_hash or "", None)
        for end in self.end_callbacks:
            await end(row.owner, row.id)

    async def forget_all(self, owner: str) -> None:
        """Forget the grants of a key that was revoked. A key that only lost rights keeps its grants, which lose the
        rights too.
        """
        for row in tuple(self._rows.values()):
            if row.owner == owner and self._owner(row) is None:
                await self._forget(row)

    async def of_token(self, token: str, address: str) -> GrantRow:
        """Return the grant of an access token that is sent to ``address``. Raise `Unauthenticated` if the token is
        unknown, expired or for another resource.
        """
        token_hash = hash_of(token)
        row = self._rows.get(self._ids.get(token_hash, ""))
        if (
            row is None and self._database.postgres is not None
        ):  # another daemon may have just issued the token
            row = await self._database.read(grants.by_access, token_hash)
            if row is not None:
                self._keep(row)
        if row is None or row.expires_at is None:
            raise Unauthenticated(
                "This access token is unknown or was revoked. Refresh it, or ask for access again.",
                code="invalid_token",
            )
        if row.expires_at <= time.time():
            raise Unauthenticated("This access token has expired. Refresh it.", code="token_expired")
        if not f"{address.rstrip('/')}/".startswith(f"{row.audience}/"):
            raise Unauthenticated(
                f"This access token is for {row.audience}, not for this address. Ask for access to this address.",
                code="invalid_token",
            )
        return row

    def caller(self, row: GrantRow) -> Principal:
        """Return the caller that uses a grant: the person, with the granted scopes that the person's key still has.
        Raise `Unauthenticated` if the key was revoked.
        """
        owner = self._owner(row)
        if owner is None:
            raise Unauthenticated("The key that granted this access was revoked.", code="invalid_token")
        return replace(owner, scopes=frozenset(narrow_scopes(owner, row.scopes)))

    def _owner(self, row: GrantRow) -> Principal | None:
        try:
            return self._keys.principal(row.owner)
        except Forbidden:
            return None

    async def add(
        self,
        owner: Principal,
        client: ClientRow,
        scopes: Sequence[str],
        audience: str,
        redirect_uri: str,
        challenge: str,
    ) -> str:
        """Record that a person grants access to a client. Return the code that the client exchanges for tokens."""
        code = secrets.token_urlsafe(32)
        issued_at = time.time()
        row = GrantRow(
            id=new_id("grant_"),
            name=client.name,
            client_id=client.id,
            owner=owner.id,
            scopes=list(scopes),
            audience=audience,
            redirect_uri=redirect_uri,
            challenge=challenge,
            code_hash=hash_of(code),
            created_at=issued_at,
            issued_at=issued_at,
        )
        for grant_id in await self._database.write(grants.add, row, client):
            previous = self._rows.get(grant_id)
            if previous is not None:
                await self._forget(previous)
        return code

    async def of_code(self, code: str, client_id: str) -> GrantRow | None:
        """Return the grant that waits for its client to exchange ``code``. If the client has already exchanged the
        code, revoke the grant, because somebody else may have used the code.
        """
        row = await self._database.read(grants.by_code, hash_of(code))
        if row is None or row.client_id != client_id:
            return None
        if row.access_hash is not None:
            logger.warning("the code of grant %s was used again; the grant is revoked", row.id)
            await self.revoke(row.id)
            return None
        return row

    async def of_refresh_token(self, token: str, client_id: str) -> GrantRow | None:
        """Return the grant whose newest refresh token is ``token``. If the token was used before, revoke the grant,
        because somebody else may have used it.
        """
        row = await self._database.read(grants.by_family, hash_of(_family(token)))
        if row is None or row.client_id != client_id:
            return None
        if row.refresh_hash != hash_of(token):
            logger.warning("a refresh token of grant %s was used again; the grant is revoked", row.id)
            await self.revoke(row.id)
            return None
        return row if row.issued_at > time.time() - grants.GRANT_LIFE_S else None

    async def issue(
        self, row: GrantRow, scopes: Sequence[str], refresh_token: str = ""
    ) -> GrantTokens | None:
        """Issue new tokens in place of the old ones. Return ``None`` if the code or ``refresh_token`` was used in the
        meantime, which revokes the grant, or if the key of the person was revoked.
        """
        if self._owner(row) is None:
            return None
        family = _family(refresh_token) if refresh_token else REFRESH_PREFIX + secrets.token_urlsafe(24)
        tokens = GrantTokens(
            ACCESS_PREFIX + secrets.token_urlsafe(32),
            f"{family}.{secrets.token_urlsafe(32)}",
            self.narrowed(row, scopes),
        )
        hashes = TokenHashes(hash_of(tokens.access), hash_of(family), hash_of(tokens.refresh))
        issued_row = await self._database.write(grants.issue, row, hashes, scopes)
        if issued_row is None:
            await self.revoke(row.id)
            return None
        self._changes_count += 1
        self._keep(issued_row)
        return tokens

    def narrowed(self, row: GrantRow, scopes: Sequence[str]) -> Sequence[str]:
        """Return the ``scopes`` of a grant that the key of the person still has."""
        return narrow_scopes(self.caller(row), scopes)

    async def revoke(self, grant_id: str) -> bool:
        """End a grant with its calls and streams. Return whether it existed."""
        existed = await self._database.write(grants.end, grant_id)
        self._changes_count += 1
        row = self._rows.get(grant_id)
        if row is not None:
            await self._forget(row)
        return existed

    async def of_access_token(self, token: str) -> GrantRow | None:
        """Return the grant to which an access token belongs, even if the token has expired, or ``None``."""
        return await self._database.read(grants.by_access, hash_of(token))


def _family(refresh_token: str) -> str:
    """Return the part that all refresh tokens of a grant share."""
    return refresh_token.partition(".")[0]
