"""Calls of models while documents are indexed: repeated while a model fails for the moment, vectors of many texts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from portico_server.core.context import Context
from portico_server.core.errors import (
    DeadlineExceeded,
    EngineFailed,
    InvalidRequest,
    TooMany,
    Unavailable,
    nearest,
)
from portico_server.core.registry import Registry
from portico_server.core.request import Embed, Request, Result, Vectors

MAX_ATTEMPTS = 4
"""How often a model that fails for the moment is asked."""

FIRST_RETRY_S = 0.5
"""Seconds before it is asked for the second time; twice as long before each further one."""

MAX_RETRY_S = 30.0
"""Seconds that are waited at most, though the model asks for more."""

CALL_TIMEOUT_S = 300.0
"""Seconds that one call may take: a model that has to be loaded first, on a machine without a GPU, takes minutes."""


async def call_model(
    context: Context, model: str, request: Request, *, timeout_s: float = CALL_TIMEOUT_S
) -> Result:
    """The answer of ``model`` within ``patience`` seconds each time. Raises what it raises for good, or the last of its
    passing failures.
    """
    wait = FIRST_RETRY_S
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            async with asyncio.timeout(timeout_s) as limit:
                return await context.call(model, request)
        except (EngineFailed, Unavailable, TooMany, DeadlineExceeded) as error:
            if attempt == MAX_ATTEMPTS or error.code == "shutting_down":
                raise
            await asyncio.sleep(min(error.retry_after or wait, MAX_RETRY_S))
            wait *= 2
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise DeadlineExceeded(f"'{model}' did not answer within {timeout_s:g} s.") from error
    raise AssertionError("the last attempt returns or raises")


# Which embedding model is meant, and vectors of it for many texts: it may fail for a moment.


MAX_EMBED_BATCH_TEXTS = 256
"""Texts in one call of an embedding model."""


async def embed_texts(texts: Sequence[str], model: str, context: Context) -> list[bytes]:
    """A vector for each text, little-endian float32; a model that fails for the moment is asked again.

    Raises `EngineFailed` for a model that gives something else, and what the model raised last.
    """
    vectors: list[bytes] = []
    for i in range(0, len(texts), MAX_EMBED_BATCH_TEXTS):
        part = tuple(texts[i : i + MAX_EMBED_BATCH_TEXTS])
        result = await call_model(context, model, Embed(part))
        if not isinstance(result, Vectors):
            raise EngineFailed(f"'{model}' is not an embedding model: it gave no vectors.")
        if len(result.data) != len(part):
            raise EngineFailed(
                f"The embedding model '{model}' gave {len(result.data)} vectors for {len(part)} texts."
            )
        vectors.extend(result.data)
    return vectors


def resolve_embedding_model(wanted: str | None, registry: Registry) -> str:
    """The concrete name of an embedding model, so that moving an alias later leaves a store's vectors valid.

    ``None`` means the default one, if there is one; ``""`` none. Raises `InvalidRequest` for any other model.
    """
    if wanted == "":
        return ""
    found = registry.get(wanted or "default-embedding")
    if found is not None and "embeddings" in found.card.capabilities:
        return found.card.name
    if wanted is None:
        return ""
    known = [s.card.name for s in registry if "embeddings" in s.card.capabilities]
    raise InvalidRequest(
        f"'{wanted}' is not an embedding model here.{nearest(wanted, known)} Known: "
        f"{', '.join(sorted(known)) or 'none'}.",
        code="model_not_found",
        param="embedding_model",
    )
