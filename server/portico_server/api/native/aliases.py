"""``/api/aliases``: names for other names, such as ``default``."""

from __future__ import annotations

from pydantic import BaseModel

from portico_server.api.endpoint import Admin, ModelsReader, TheServices, new_router
from portico_server.api.shapes import Listed

router = new_router(prefix="/api/aliases", tags=["Models"])


class AliasTarget(BaseModel, extra="forbid"):
    """The model or app that an alias points to."""

    target: str


class Alias(BaseModel):
    """A name and its target."""

    name: str
    target: str


@router.get("")
async def list_aliases(services: TheServices, caller: ModelsReader) -> Listed[Alias]:
    """List all aliases by name, except aliases of models that other keys trained."""
    pairs = [
        (name, target)
        for name, target in sorted(services.registry.aliases.items())
        if ":" not in target or services.registry.get(name, caller) is not None
    ]
    return Listed(data=[Alias(name=name, target=target) for name, target in pairs])


@router.put("/{name:path}")
async def set_alias(name: str, body: AliasTarget, services: TheServices, _caller: Admin) -> Alias:
    """Point a name to a model or app. The alias takes effect immediately and survives restarts."""
    await services.models.aliases.set(name, body.target)
    return Alias(name=name, target=services.registry.aliases[name])
