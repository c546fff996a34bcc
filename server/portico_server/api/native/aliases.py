"""``/api/aliases``: names that mean other names, such as ``default``."""

from __future__ import annotations

from pydantic import BaseModel

from portico_server.api.endpoint import Admin, ModelsReader, TheServices, new_router
from portico_server.api.shapes import Listed

router = new_router(prefix="/api/aliases", tags=["Models"])


class AliasTarget(BaseModel, extra="forbid"):
    """The model or app that an alias means."""

    target: str


class Alias(BaseModel):
    """A name and what it means."""

    name: str
    target: str


@router.get("")
async def list_aliases(services: TheServices, caller: ModelsReader) -> Listed[Alias]:
    """All aliases but those of what other keys have trained, by name."""
    pairs = [
        (name, target)
        for name, target in sorted(services.registry.aliases.items())
        if ":" not in target or services.registry.get(name, caller) is not None
    ]
    return Listed(data=[Alias(name=name, target=target) for name, target in pairs])


@router.put("/{name:path}")
async def set_alias(name: str, body: AliasTarget, services: TheServices, _caller: Admin) -> Alias:
    """Let a name mean a model or app from now on, and after a restart."""
    await services.models.aliases.set(name, body.target)
    return Alias(name=name, target=services.registry.aliases[name])
