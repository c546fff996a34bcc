"""``/api/keys``: make, list and revoke API keys."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import BaseModel

from portico_server.api.auth import Auth
from portico_server.api.endpoint import Admin
from portico_server.api.endpoint import new_router as new_router
from portico_server.core.limits import UsageLimits
from portico_server.db.keys import KeyRow

router = new_router(prefix="/api/keys", tags=["Keys"])


def _auth(request: Request) -> Auth:
    auth: Auth = request.scope["portico.auth"]
    return auth


TheAuth = Annotated[Auth, Depends(_auth)]


class Key(BaseModel):
    """A key without its secret; ``hint`` is the last four characters of it. ``limits`` are those that are set.

    ``filters``: which files of a store it may read, by the name or id of the store.
    """

    id: str
    name: str
    scopes: list[str]
    hint: str
    created_at: float
    limits: dict[str, int]
    filters: dict[str, dict[str, Any]]


class NewKey(Key):
    """A key that was just made. ``key`` is shown this once."""

    key: str


class KeyList(BaseModel):
    """All keys that work."""

    data: list[Key]


class KeyWish(BaseModel):
    """A key to be made. ``limits``: concurrency, requests_per_minute, tokens_per_minute, tokens_per_day.

    ``filters``: for a store, by its name or id or ``*`` for any, what the attributes of its files must meet for this
    key to read them, in the form of the ``filters`` of a search.
    """

    name: str
    scopes: list[str]
    limits: dict[str, Any] = {}
    filters: dict[str, Any] = {}


class RevokedKey(BaseModel):
    """What was removed."""

    id: str
    deleted: bool = True


@router.get("")
async def list_keys(auth: TheAuth, _caller: Admin) -> KeyList:
    """All keys, oldest first."""
    return KeyList(data=[Key(**_fields(row)) for row in auth.list()])


@router.post("")
async def create_key(wish: KeyWish, auth: TheAuth, _caller: Admin) -> NewKey:
    """A new key; the answer holds the secret, which is kept nowhere."""
    row, secret = await auth.create(wish.name, wish.scopes, UsageLimits.parse(wish.limits), wish.filters)
    return NewKey(**_fields(row), key=secret)


@router.delete("/{key_id}")
async def revoke_key(key_id: str, auth: TheAuth, _caller: Admin) -> RevokedKey:
    """End a key, at once."""
    await auth.revoke(key_id)
    return RevokedKey(id=key_id)


def _fields(row: KeyRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "scopes": list(row.scopes),
        "hint": row.hint,
        "created_at": row.created_at,
        "limits": dict(row.limits),
        "filters": dict(row.filters),
    }
