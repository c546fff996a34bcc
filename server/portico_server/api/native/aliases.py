"""``/api/aliases``: names that mean other names, such as ``default``."""

from __future__ import annotations

from pydantic import BaseModel

from portico_server.api.depends import TheParts
from portico_server.api.native.rights import Admin, ModelsReader
from portico_server.api.router import router as new_router

router = new_router(prefix="/api/aliases", tags=["Models"])


class Target(BaseModel):
    """The model or app that an alias means."""

    target: str


class Alias(BaseModel):
    """A name and what it means."""

    name: str
    target: str


class AliasList(BaseModel):
    """All aliases, by name."""

    data: list[Alias]


@router.get("")
async def list_aliases(parts: TheParts, caller: ModelsReader) -> AliasList:
    """All aliases, save those of what other keys have trained."""
    pairs = [
        (name, target)
        for name, target in sorted(parts.registry.aliases.items())
        if ":" not in target or parts.registry.get(name, caller) is not None
    ]
    return AliasList(data=[Alias(name=name, target=target) for name, target in pairs])


@router.put("/{name:path}")
async def set_alias(name: str, wish: Target, parts: TheParts, _caller: Admin) -> Alias:
    """Let a name mean a model or app from now on, and after a restart."""
    await parts.models.set_alias(name, wish.target)
    return Alias(name=name, target=parts.registry.aliases[name])
