"""Stores as the native API describes them. The daemon's status imports this module, so it declares no endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from portico.schemas.stores import Store
from portico_server.api.services import ApiServices
from portico_server.api.shapes import shaped
from portico_server.core.errors import PorticoError
from portico_server.core.principal import Principal
from portico_server.core.secret_values import SecretValues, in_address
from portico_server.features.sources import spec
from portico_server.features.stores.store import StoreInfo, StoreRow, store_card

MAX_STATUS_STORES: Final = 20
"""Maximum number of stores in the status, apart from those of the folders given at startup."""


async def describe_status(services: ApiServices, caller: Principal) -> Mapping[str, Any]:
    """Return the newest stores that a caller can see, and those of the folders given at startup, oldest first, as
    ``stores``; the cards of their apps as ``apps``, and the number of all stores as ``store_count``.
    """
    page = await services.stores.page(caller, MAX_STATUS_STORES, "desc")
    rows_by_id: dict[str, StoreRow] = {row.id: row for row in page.data}
    for name in services.start_apps if page.has_more else ():
        with suppress(PorticoError):  # deleted since, or invisible
            start_row = await services.stores.get(name, caller)
            rows_by_id[start_row.id] = start_row
    infos = await services.stores.describe([rows_by_id[store_id] for store_id in sorted(rows_by_id)], caller)
    return {
        "stores": tuple(to_store(info, services, caller) for info in infos),
        "apps": services.store_apps.of_stores([store_card(info.row, info.name) for info in infos]),
        "store_count": await services.stores.count(caller) if page.has_more else len(infos),
    }


def to_store(info: StoreInfo, services: ApiServices, caller: Principal) -> Store:
    """Return a store as the native API describes it to a caller. Only admins see problems of the configuration."""
    row = info.row
    wrong = services.problems.of_store(row.name) if caller.admin and row.owner is None else None
    return shaped(
        Store,
        row,
        name=info.name,
        source=None if row.source is None else _without_secrets(spec.source_of(row.source).written()),
        file_counts=info.counts,
        problem=wrong or info.problem,
        skipped=dict(info.skipped),
        search=dict(row.search or {}),
        usage_bytes=info.usage_bytes,
    )


def _without_secrets(source: str | list[str]) -> str | list[str]:
    """Return addresses without passwords and keys, which every reader of the store would see."""
    addresses = [source] if isinstance(source, str) else source
    secrets = SecretValues(secret for address in addresses for secret in in_address(address))
    masked_source: str | list[str] = secrets.remove(source)
    return masked_source
