"""Whether a model can make the chunks that it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.knowledge.chunk.chunkers import CHUNKERS

PARAM = "chunking_strategy.model"


async def check_model(
    chunking: Mapping[str, Any], embedding_model: str, registry: Registry, caller: Principal
) -> None:
    """Make sure of the model of a checked strategy; ``embedding_model`` is the one where it names none.

    Raises `NotFound`, `Forbidden`, and `InvalidRequest` for a model of another kind.
    """
    kind = chunking["type"]
    wanted, needed = ("chat", "chat") if CHUNKERS[kind].form else ("embedding", "embeddings")
    name = chunking["model"] or embedding_model
    if not name:
        raise InvalidRequest(
            f"The chunking strategy '{kind}' needs an embedding model, and there are no vectors here. Name one as "
            "'model' in the chunking strategy.",
            param=PARAM,
        )
    try:
        found = await registry.resolve(name, caller)
    except NotFound as error:
        raise NotFound(error.message, code=error.code, param=PARAM) from error
    if found.card.kind not in ("model", "app") or needed not in found.card.capabilities:
        raise InvalidRequest(
            f"'{name}' is not a model for {wanted}, so it cannot make chunks by the strategy '{kind}'.",
            param=PARAM,
        )
