"""Checks whether a model can create the chunks of a chunking strategy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico_server.core.errors import Forbidden, InvalidRequest, NotFound
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.features.chunkers.chunkers import CHUNKERS, is_late

MODEL_PARAM = "chunking_strategy.model"

MAX_NAMED_MODELS = 10
"""Maximum number of models that an error lists."""

LATE_MODEL_EXAMPLE = "hf://nomic-ai/modernbert-embed-base"
"""A model for late chunking: 8,192 tokens, mean pooling, and an architecture that transformers supports."""


async def check_model(
    chunking: Mapping[str, Any], embedding_model: str, registry: Registry, caller: Principal
) -> None:
    """Check the model of a validated strategy. ``embedding_model`` is checked if the strategy names no model.

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
            f"The chunking strategy '{kind}' needs an embedding model, but none is available. Name one as "
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
        # Chunks are created with the daemon's rights, and an app would act with these rights.
        raise Forbidden(
            f"'{name}' is an app, and an app that creates chunks would have the operator's rights. Name a "
            "model, or ask the operator to create the group.",
            param=MODEL_PARAM,
        )
    if servable.card.kind not in ("model", "app") or needed_capability not in servable.card.capabilities:
        raise InvalidRequest(
            f"'{name}' is not a model for {purpose}, so it cannot create chunks by the strategy '{kind}'.",
            param=MODEL_PARAM,
        )


async def _late_unsupported(name: str, registry: Registry, caller: Principal) -> InvalidRequest:
    """Return the error for a model that does not support late chunking, with available models that do."""
    able = await registry.names_with("spans", caller, "model")
    available_models = (
        f"Available models that support it: {', '.join(able[:MAX_NAMED_MODELS])}."
        if able
        else "No available model supports it: add a model with mean pooling and the capability 'spans', such "
        f"as {LATE_MODEL_EXAMPLE}. The capabilities of a model are known once its files are downloaded."
    )
    return InvalidRequest(
        f"'{name}' computes only vectors of whole texts, but the chunking strategy 'late' needs vectors of "
        f"parts of a text. {available_models}",
        code="spans_unsupported",
        param="embedding_model",
    )
