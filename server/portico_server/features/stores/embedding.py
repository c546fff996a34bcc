"""Resolves embedding models and computes vectors for many texts, with retries for temporary failures."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

from portico_server.core.context import Context
from portico_server.core.errors import (
    EngineFailed,
    InvalidRequest,
    nearest,
)
from portico_server.core.registry import Registry
from portico_server.core.request import Embed, Vectors
from portico_server.features.stores.model_calls import call_model

MAX_EMBED_BATCH_TEXTS = 256
"""Maximum number of texts in one call of an embedding model."""


async def embed_texts(texts: Sequence[str], model: str, context: Context) -> list[bytes]:
    """Return a vector for each text, as little-endian float32. Temporary failures of the model are retried.

    A text that is longer than the model's context gets the mean vector of its parts. Raises `EngineFailed` if the model
    does not return one vector per text. If all retries fail, raises the model's last error.
    """
    vectors: list[bytes] = []
    for i in range(0, len(texts), MAX_EMBED_BATCH_TEXTS):
        part = tuple(texts[i : i + MAX_EMBED_BATCH_TEXTS])
        vectors.extend(await _embed(part, model, context))
    return vectors


async def _embed(texts: tuple[str, ...], model: str, context: Context) -> Sequence[bytes]:
    try:
        result = await call_model(context, model, Embed(texts))
    except InvalidRequest as error:
        if error.code != "context_length_exceeded" or texts == (texts[0][:1],):
            raise
        if len(texts) > 1:  # any of them may be too long
            middle = len(texts) // 2
            parts = texts[:middle], texts[middle:]
            return [vector for part in parts for vector in await _embed(part, model, context)]
        [text] = texts
        middle = len(text) // 2
        return [_mean(await _embed((text[:middle], text[middle:]), model, context))]
    if not isinstance(result, Vectors):
        raise EngineFailed(f"'{model}' is not an embedding model: it returned no vectors.")
    if len(result.data) != len(texts):
        raise EngineFailed(
            f"The embedding model '{model}' returned {len(result.data)} vectors for {len(texts)} texts."
        )
    return result.data


def _mean(vectors: Sequence[bytes]) -> bytes:
    """Return the mean of vectors, with a length of 1."""
    sums = [math.fsum(numbers) for numbers in zip(*(array("f", vector) for vector in vectors), strict=True)]
    length = math.hypot(*sums) or 1.0
    return array("f", (number / length for number in sums)).tobytes()


def resolve_embedding_model(model_name: str | None, registry: Registry) -> str:
    """Return the concrete name of an embedding model, so that a store's vectors stay valid when an alias changes.

    ``None`` means the default model, if any; ``""`` means no model. Raises `InvalidRequest` if the name is not that of
    an available embedding model.
    """
    if model_name == "":
        return ""
    servable = registry.get(model_name or "default-embedding")
    if servable is not None and "embeddings" in servable.card.capabilities:
        return servable.card.name
    if model_name is None:
        return ""
    embedding_models = [s.card.name for s in registry if "embeddings" in s.card.capabilities]
    raise InvalidRequest(
        f"'{model_name}' is not an available embedding model.{nearest(model_name, embedding_models)} "
        f"Available: {', '.join(sorted(embedding_models)) or 'none'}.",
        code="model_not_found",
        param="embedding_model",
    )
