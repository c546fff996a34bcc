"""``/api/keys``: create, list, change and revoke API keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from portico.schemas.keys import Key, NewKey
from portico.spelling import misspelt
from portico_server.api.endpoint import Admin, TheAuth, TheServices, new_router
from portico_server.api.services import ApiServices
from portico_server.api.shapes import ListedPage, RemovedId, ThePaging, cut_page, shaped
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.core.limits import KeyLimits
from portico_server.core.principal import Principal
from portico_server.db.grants import GrantRow
from portico_server.db.keys import KeyRow

router = new_router(prefix="/api/keys", tags=["Keys"])


class KeyRequest(BaseModel, extra="forbid"):
    """A key to create. ``limits``: concurrency, requests_per_minute, tokens_per_minute, tokens_per_day, storage_mb.

    ``filters`` maps stores, by name or id (``*`` for any store), to conditions on file attributes, in the format of
    the ``filters`` of a search. The key can read only files that meet the condition. ``groups`` are the key's groups at
    the sources of stores with ``rights``.
    """

    name: str
    scopes: list[str]
    limits: dict[str, Any] = {}
    filters: dict[str, Any] = {}
    groups: list[str] = []


class KeyChange(BaseModel, extra="forbid"):
    """New values for ``scopes``, ``filters``, ``limits`` or ``groups``. Each new value replaces the old value entirely.
    Omitted fields stay unchanged; ``{}`` removes all filters or limits, ``[]`` all groups.
    """

    scopes: list[str] | None = None
    filters: dict[str, Any] | None = None
    limits: dict[str, Any] | None = None
    groups: list[str] | None = None


@router.get("")
async def list_keys(
    auth: TheAuth,
    _caller: Admin,
    paging: ThePaging,
    blocked: bool = False,
) -> ListedPage[Key]:
    """List the keys, oldest first, then the access that people have granted to OAuth clients; without ``limit`` all of
    them. ``blocked``: list the users whose sign-in is blocked instead.

    If ``has_more`` is true, pass ``last_id`` as ``after`` to get the next page. ``query``: only keys whose names
    contain this text.
    """
    rows: list[KeyRow | GrantRow] = [*(await auth.list_blocked() if blocked else auth.keys.list())]
    rows += () if blocked else auth.grants.list()
    page = cut_page(rows, paging, "key")
    stored_bytes = await auth.stored_bytes(None if paging.limit is None else [row.id for row in page.data])
    return ListedPage.of(
        [
            shaped(Key, row, stored_bytes=stored_bytes.get(row.id, 0))
            if isinstance(row, KeyRow)
            else shaped(Key, row, hint="", limits={}, filters={}, parent=row.owner)
            for row in page.data
        ],
        page.has_more,
    )


async def _require_meant(filters: Mapping[str, Any], services: ApiServices, caller: Principal) -> None:
    """Raise `InvalidRequest` if a name matches no store but nearly matches an existing store: the filter would not
    restrict that store. Other unknown names are allowed, because their stores may be created later.
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
                    f"The store '{name[:80]}' does not exist, so this filter would restrict nothing. Did you "
                    f"mean '{meant_name}'? To use this name for a different store, create the store first.",
                    code="store_not_found",
                    param=f"filters.{name}"[:200],
                ) from None


@router.post("")
async def create_key(body: KeyRequest, auth: TheAuth, services: TheServices, caller: Admin) -> NewKey:
    """Create a key. The response contains the secret, which is not stored. A filter whose store does not exist is
    refused if its name nearly matches an existing store.
    """
    await _require_meant(body.filters, services, caller)
    row, secret = await auth.create(
        body.name, body.scopes, KeyLimits.parse(body.limits), body.filters, body.groups
    )
    return shaped(NewKey, row, key=secret)


@router.patch("/{key_id}")
async def change_key(
    key_id: str, body: KeyChange, auth: TheAuth, services: TheServices, caller: Admin
) -> Key:
    """Change the scopes, filters, limits or groups of a key immediately.

    If the key loses rights, its calls, streams and runs end as if it were revoked. If only limits change, they
    continue, and the key's past usage counts towards the new limits.
    """
    if body == KeyChange():
        raise InvalidRequest(
            "Specify what to change: 'scopes', 'filters', 'limits' or 'groups'.",
            code="missing_required_parameter",
            param="scopes",
        )
    await _require_meant(body.filters or {}, services, caller)
    limits = None if body.limits is None else KeyLimits.parse(body.limits)
    row = await auth.change(
        key_id, scopes=body.scopes, filters=body.filters, limits=limits, groups=body.groups
    )
    return shaped(Key, row)


@router.delete("/{key_id}")
async def revoke_key(key_id: str, auth: TheAuth, _caller: Admin) -> RemovedId:
    """Revoke a key immediately. If the key belongs to a user who signs in, the user stays blocked, whatever token they
    present.
    """
    await auth.revoke(key_id)
    return RemovedId(id=key_id)


@router.post("/{key_id}/unblock")
async def unblock_key(key_id: str, auth: TheAuth, _caller: Admin) -> Key:
    """Unblock a user who signs in. The user's next token defines their rights."""
    return shaped(Key, await auth.unblock(key_id))
