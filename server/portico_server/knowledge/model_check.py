"""Whether a model can make the chunks that it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico_server.core.errors import Forbidden, InvalidRequest, NotFound
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.knowledge.chunk.chunkers import CHUNKERS, is_late

MODEL_PARAM = "chunking_strategy.model"

MAX_NAMED_MODELS = 10
"""Models that a refusal names."""

LATE_MODEL_EXAMPLE = "hf://nomic-ai/modernbert-embed-base"
"""A model that embeds late: 8,192 tokens, pooled by the mean, of an architecture that transformers has."""


async def check_model(
    chunking: Mapping[str, Any], embedding_model: str, registry: Registry, caller: Principal
) -> None:
    """Make sure of the model of a checked strategy; ``embedding_model`` is the one where it names none.

    Raises `NotFound`, `Forbidden`, and `InvalidRequest` for a model of another kind.
    """
    kind = chunking["type"]
    late = is_late(chunking)
    param = "embedding_model" if late else MODEL_PARAM
    purpose, needed_capability = ("chat", "chat") if CHUNKERS[kind].prompt else ("embedding", "embeddings")
    name = chunking.get("model") or embedding_model
    if not name:
        place = "the embedding model of the group" if late else "'model' in the chunking strategy"
        raise InvalidRequest(
            f"The chunking strategy '{kind}' needs an embedding model, and there are no vectors here. Name one as "
            f"{place}.",
            param=param,
        )
    try:
        servable = await registry.resolve(name, caller)
    except NotFound as error:
        raise NotFound(error.message, code=error.code, param=param) from error
    if late and "spans" not in servable.card.capabilities:
        raise await _late_unsupported(name, registry, caller)
    if servable.card.kind == "app" and not caller.admin:
        # Chunks are made with the daemon's rights, and an app has those of its caller.
        raise Forbidden(
            f"'{name}' is an app, and an app that makes chunks works with the operator's rights. Name a model, or ask "
            "the operator to make the group.",
            param=MODEL_PARAM,
        )
    if servable.card.kind not in ("model", "app") or needed_capability not in servable.card.capabilities:
        raise InvalidRequest(
            f"'{name}' is not a model for {purpose}, so it cannot make chunks by the strategy '{kind}'.",
            param=MODEL_PARAM,
        )


async def _late_unsupported(name: str, registry: Registry, caller: Principal) -> InvalidRequest:
    """Why a model cannot embed late, with those that can."""
    able = [card.name for card in await registry.cards(caller, "model") if "spans" in card.capabilities]
    available_models = (
        f"Models here that do: {', '.join(able[:MAX_NAMED_MODELS])}."
        if able
        else "No model here does: add one that pools by the mean, with the capability 'spans', such as "
        f"{LATE_MODEL_EXAMPLE}; what a model can do is known once its files are here."
    )
    return InvalidRequest(
        f"'{name}' only gives vectors of whole texts, and the chunking strategy 'late' needs a model that gives those "
        f"of parts of a text. {available_models}",
        code="spans_unsupported",
        param="embedding_model",
    )
