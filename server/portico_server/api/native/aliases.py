"""``/api/aliases``: names for other names, such as ``default``."""

from __future__ import annotations

from pydantic import BaseModel

from portico_server.api.endpoint import Admin, ModelsReader, TheServices, new_router
from portico_server.api.shapes import ListedPage, ThePaging

router = new_router(prefix="/api/aliases", tags=["Models"])


class AliasTarget(BaseModel, extra="forbid"):
    """The model or app that an alias points to."""

    target: str


class Alias(BaseModel):
    """A name and its target."""

    name: str
    target: str


@router.get("")
async def list_aliases(
    services: TheServices,
    caller: ModelsReader,
    paging: ThePaging,
) -> ListedPage[Alias]:
    """List the aliases by name, except aliases of models that other keys trained; without ``limit`` all of them.

    If ``has_more`` is true, pass ``last_id``, which is a name, as ``after`` to get the next page. ``query``: only
    aliases that contain this text.
    """
    pairs = [
        (name, target)
        for name, target in sorted(services.registry.aliases.items())
        if paging.query.casefold() in name.casefold()
        and (paging.after_id is None or name > paging.after_id)
        and (":" not in target or services.registry.get(name, caller) is not None)
    ]
    data = [Alias(name=name, target=target) for name, target in pairs[: paging.limit]]
    return ListedPage(data=data, has_more=len(data) < len(pairs), last_id=data[-1].name if data else None)


@router.put("/{name:path}")
async def set_alias(name: str, body: AliasTarget, services: TheServices, _caller: Admin) -> Alias:
    """Point a name to a model or app. The alias takes effect immediately and survives restarts."""
    await services.models.aliases.set(name, body.target)
    return Alias(name=name, target=services.registry.aliases[name])
