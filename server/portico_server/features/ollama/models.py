"""``/api/tags``, ``/api/ps``, ``/api/show`` and ``/api/version``: the available models and their details."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from portico_server import __version__
from portico_server.api.abilities import calls_tools, can_reason, context_length_of
from portico_server.api.exchange import Exchange
from portico_server.api.openai.relay import caller_of
from portico_server.api.services import ApiServices
from portico_server.core.errors import NotFound
from portico_server.core.servable import Card
from portico_server.features.ollama.bodies import SHOWN
from portico_server.features.ollama.names import LATEST, required_name

API_VERSION: Final = "0.13.0"
"""The version of Ollama's API that Portico supports. Programs query the version before they use new features."""


async def tags(exchange: Exchange, services: ApiServices) -> None:
    """List all names that a request may use: models, apps and aliases."""
    caller = caller_of(exchange)
    cards = {card.name: card for card in await services.registry.cards(caller, "model", "app")}
    named_cards = list(cards.items())
    named_cards += [
        (alias, cards[target])
        for alias, target in sorted(services.registry.aliases.meanings.items())
        if target in cards and alias not in cards and cards[target].owner is None
    ]
    await exchange.answer(
        200,
        orjson.dumps(
            {
                "models": [
                    {
                        **_to_model(name, card),
                        "capabilities": _capabilities(card),
                        "context_length": context_length_of(card, services.registry) or 0,
                    }
                    for name, card in named_cards
                ]
            }
        ),
    )


async def ps(exchange: Exchange, services: ApiServices) -> None:
    """List the loaded models."""
    caller = caller_of(exchange)
    cards = {card.name: card for card in await services.registry.cards(caller, "model")}
    deployment_infos = [
        deployment_info
        for deployment_info in services.models.list()
        if deployment_info.state == "ready" and deployment_info.name in cards
    ]
    models = [
        {
            **_to_model(deployment_info.name, cards[deployment_info.name]),
            "size": deployment_info.memory_bytes or 0,
            "size_vram": (deployment_info.memory_bytes or 0) if deployment_info.gpus else 0,
            "context_length": deployment_info.context_length or 0,
            "expires_at": _moment(
                (deployment_info.last_used_at or time.time())
                + (deployment_info.keep_alive or services.settings.keep_alive)
            ),
        }
        for deployment_info in deployment_infos
    ]
    await exchange.answer(200, orjson.dumps({"models": models}))


async def show(exchange: Exchange, services: ApiServices) -> None:
    """Return the details of a model."""
    body = await exchange.json()
    SHOWN.check(body)
    name = required_name(body)
    registry, caller = services.registry, caller_of(exchange)
    try:
        card = (await registry.resolve(name, caller)).card
    except NotFound:
        card = (await registry.resolve(name.removesuffix(LATEST), caller)).card
    if card.kind not in ("model", "app"):
        raise NotFound(f"The model '{name}' does not exist.", code="model_not_found", param="model")
    model_facts: dict[str, Any] = {"general.architecture": card.kind, "general.name": card.title or card.name}
    context_length, dimensions = context_length_of(card, registry), card.labels.get("dimensions")
    if context_length:
        model_facts[f"{card.kind}.context_length"] = context_length
    if isinstance(dimensions, int):
        model_facts[f"{card.kind}.embedding_length"] = dimensions
    await exchange.answer(
        200,
        orjson.dumps(
            {
                "modelfile": f"# {card.description or card.name}\n",
                "parameters": "",
                "template": "",
                "details": _details(card),
                "model_info": model_facts,
                "capabilities": _capabilities(card),
                "modified_at": _moment(card.created),
            }
        ),
    )


async def version(exchange: Exchange, _services: ApiServices) -> None:
    """Return the version of Ollama's API and the version of Portico."""
    await exchange.answer(200, orjson.dumps({"version": API_VERSION, "portico": __version__}))


def _to_model(name: str, card: Card) -> dict[str, Any]:
    # Programs compare digests to find out whether a model has changed.
    identity = f"{card.name} {card.labels.get('source', '')} {card.created}"
    return {
        "name": name,
        "model": name,
        "modified_at": _moment(card.created),
        "size": 0,
        "digest": hashlib.sha256(identity.encode()).hexdigest(),
        "details": _details(card),
    }


def _capabilities(card: Card) -> list[str]:
    """Return Ollama's words for what a model or app can do."""
    words = {
        "completion": "chat" in card.capabilities,
        "tools": calls_tools(card),
        "embedding": "embeddings" in card.capabilities,
        "vision": "vision" in card.capabilities,
        "thinking": bool(can_reason(card)),
    }
    return [word for word, is_supported in words.items() if is_supported]


def _details(card: Card) -> dict[str, Any]:
    count = card.labels.get("parameters")
    size = f"{count / 1e9:.1f}B" if isinstance(count, int | float) else ""
    return {
        "parent_model": "",
        "format": str(card.labels.get("engine") or card.kind),
        "family": card.kind,
        "families": [card.kind],
        "parameter_size": size,
        "quantization_level": "",
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
