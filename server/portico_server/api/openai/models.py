"""``GET /v1/models``: models, apps and aliases, which are all names that a chat or embedding request may use."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from portico_server.api.abilities import (
    Modality,
    calls_tools,
    can_reason,
    context_length_of,
    inputs_of,
    outputs_of,
)
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.shapes import OpenAIList
from portico_server.core.errors import NotFound
from portico_server.core.registry import Registry
from portico_server.core.servable import Card

router = new_router(tagged=True, prefix="/v1/models", tags=["OpenAI: models"])


class Modalities(BaseModel):
    """The kinds of content that a model accepts and returns."""

    input: list[Modality]
    output: list[Modality]


class Model(BaseModel):
    """A model, app or alias that the ``model`` field accepts. The fields after ``owned_by`` are Portico's additions.

    ``context_length`` is the maximum number of tokens of a call, including its answer, and ``max_output_tokens`` that
    of an answer. For an app, they are those of its model. ``tools``: the model calls functions of the request.
    ``reasoning``: the model can reason before it answers, and a request can set how much. ``null`` means unknown, as
    for models of providers.
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
    context_length: int | None = None
    max_output_tokens: int | None = None
    modalities: Modalities
    tools: bool
    reasoning: bool | None = None


@router.get("")
async def list_models(services: TheServices, caller: Caller) -> OpenAIList[Model]:
    """Return all models, apps and aliases that the caller may use."""
    cards = {card.name: card for card in await services.registry.cards(caller, "model", "app")}
    registry = services.registry
    names = [_model(card, registry) for card in cards.values()]
    names += [
        _model(cards[target], registry, alias)
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
    return _model(card, services.registry, name if name != card.name else None)


def _model(card: Card, registry: Registry, alias: str | None = None) -> Model:
    context_length = context_length_of(card, registry)
    return Model(
        id=alias or card.name,
        created=card.created,
        kind=card.kind,
        title=card.title,
        description=card.description,
        capabilities=sorted(card.capabilities),
        labels=dict(card.labels),
        alias_of=card.name if alias else None,
        context_length=context_length,
        max_output_tokens=context_length if "chat" in card.capabilities else None,
        modalities=Modalities(input=inputs_of(card), output=outputs_of(card)),
        tools=calls_tools(card),
        reasoning=can_reason(card),
    )
