"""``/api/keys``: make, list, change and revoke API keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from portico.schemas.keys import Key, NewKey
from portico.spelling import misspelt
from portico_server.api.endpoint import Admin, TheAuth, TheServices, new_router
from portico_server.api.services import ApiServices
from portico_server.api.shapes import Listed, RemovedId, shaped
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.core.limits import KeyLimits
from portico_server.core.principal import Principal

router = new_router(prefix="/api/keys", tags=["Keys"])


class KeyRequest(BaseModel, extra="forbid"):
    """A key to be made. ``limits``: concurrency, requests_per_minute, tokens_per_minute, tokens_per_day, storage_mb.

    ``filters``: for a store, by its name or id or ``*`` for any, what the attributes of its files must meet for this
    key to read them, in the form of the ``filters`` of a search.
    """

    name: str
    scopes: list[str]
    limits: dict[str, Any] = {}
    filters: dict[str, Any] = {}


class KeyChange(BaseModel, extra="forbid"):
    """``scopes``, ``filters``, ``limits``: all that the key has from then on. What is left out stays; ``{}`` is no
    filters, and no limits.
    """

    scopes: list[str] | None = None
    filters: dict[str, Any] | None = None
    limits: dict[str, Any] | None = None


@router.get("")
async def list_keys(auth: TheAuth, _caller: Admin, blocked: bool = False) -> Listed[Key]:
    """All keys, oldest first. ``blocked``: in their place those who signed in and are kept out."""
    stored_bytes = await auth.stored()
    return Listed(
        data=[
            shaped(Key, row, stored_bytes=stored_bytes.get(row.id, 0))
            for row in (await auth.blocked() if blocked else auth.keys.list())
        ]
    )


async def _require_meant(filters: Mapping[str, Any], services: ApiServices, caller: Principal) -> None:
    """Raises `InvalidRequest` for a name of no store that is nearly one's: the filter would withhold nothing of that.
    Stores of other names may be made later.
    """
    for name in filters:
        try:
            if name != "*":
                await services.stores.get(name, caller)
        except NotFound:
            store_names = {
                card.name.casefold(): card.name for card in await services.stores.served.cards(caller)
            }
            folded_name = name.strip().casefold()
            if meant_name := store_names.get(folded_name) or store_names.get(
                misspelt(folded_name, store_names)
            ):
                raise InvalidRequest(
                    f"There is no store '{name[:80]}', so this filter would withhold nothing. Did you "
                    f"mean '{meant_name}'? "
                    "If another one is to have this name, make it first.",
                    code="store_not_found",
                    param=f"filters.{name}"[:200],
                ) from None


@router.post("")
async def create_key(body: KeyRequest, auth: TheAuth, services: TheServices, caller: Admin) -> NewKey:
    """A new key; the answer holds the secret, which is kept nowhere. A filter on a store whose name is nearly that of
    another one is refused.
    """
    await _require_meant(body.filters, services, caller)
    row, secret = await auth.create(body.name, body.scopes, KeyLimits.parse(body.limits), body.filters)
    return shaped(NewKey, row, key=secret)


@router.patch("/{key_id}")
async def change_key(
    key_id: str, body: KeyChange, auth: TheAuth, services: TheServices, caller: Admin
) -> Key:
    """Let a key have other scopes, filters or limits, at once. If it may do or read less, its calls, streams and runs
    end as by a revocation; under other limits they continue, and what it used counts.
    """
    if body.scopes is None and body.filters is None and body.limits is None:
        raise InvalidRequest(
            "Say what changes: 'scopes', 'filters' or 'limits'.",
            code="missing_required_parameter",
            param="scopes",
        )
    await _require_meant(body.filters or {}, services, caller)
    limits = None if body.limits is None else KeyLimits.parse(body.limits)
    row = await auth.change(key_id, scopes=body.scopes, filters=body.filters, limits=limits)
    return shaped(Key, row)


@router.delete("/{key_id}")
async def revoke_key(key_id: str, auth: TheAuth, _caller: Admin) -> RemovedId:
    """End a key, at once. Somebody who signs in is kept out from then on, whatever token they bring."""
    await auth.revoke(key_id)
    return RemovedId(id=key_id)


@router.post("/{key_id}/unblock")
async def unblock_key(key_id: str, auth: TheAuth, _caller: Admin) -> Key:
    """Let somebody in again who signs in and was kept out. What they may do, their next token says."""
    return shaped(Key, await auth.unblock(key_id))
