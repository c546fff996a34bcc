"""``GET /v1/models``: models, apps and aliases, which are all names that a chat or embedding request may use."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.shapes import OpenAIList
from portico_server.core.errors import NotFound
from portico_server.core.servable import Card

router = new_router(prefix="/v1/models", tags=["OpenAI: models"])


class Model(BaseModel):
    """A model, app or alias that the ``model`` field accepts. ``kind``, ``title``, ``capabilities`` and ``labels`` are
    Portico's additions.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "portico"
    kind: str
    title: str = ""
    description: str = ""
    capabilities: list[str]
    labels: dict[str, Any]
    alias_of: str | None = None


@router.get("")
async def list_models(services: TheServices, caller: Caller) -> OpenAIList[Model]:
    """Return all models, apps and aliases that the caller may use."""
    cards = {card.name: card for card in await services.registry.cards(caller, "model", "app")}
    names = [_model(card) for card in cards.values()]
    names += [
        _model(cards[target], alias)
        for alias, target in sorted(services.registry.aliases.meanings.items())
        if target in cards and alias not in cards and (cards[target].owner is None or ":" in target)
    ]
    return OpenAIList(data=names)


@router.get("/{name:path}")
async def retrieve_model(name: str, services: TheServices, caller: Caller) -> Model:
    """Return one model, app or alias. A name may contain slashes."""
    card = (await services.registry.resolve(name, caller)).card
    if card.kind not in ("model", "app"):
        raise NotFound(f"The model '{name}' does not exist.", code="model_not_found", param="model")
    return _model(card, name if name != card.name else None)


def _model(card: Card, alias: str | None = None) -> Model:
    return Model(
        id=alias or card.name,
        created=card.created,
        kind=card.kind,
        title=card.title,
        description=card.description,
        capabilities=sorted(card.capabilities),
        labels=dict(card.labels),
        alias_of=card.name if alias else None,
    )
