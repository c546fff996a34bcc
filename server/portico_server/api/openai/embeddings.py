"""``POST /v1/embeddings``: embed texts, or token ids of ``cl100k_base``, as numbers or as base64."""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Mapping
from typing import Any

import orjson

from portico_server.api.exchange import Exchange, Presence
from portico_server.api.openai.bodies import EMBEDDING
from portico_server.api.openai.relay import caller_of, fill_model, find, relay
from portico_server.api.openai.token_input import without_tokens
from portico_server.api.services import ApiServices
from portico_server.core.errors import PorticoError
from portico_server.core.request import Embed, Vectors
from portico_server.core.servable import relays


async def create(exchange: Exchange, services: ApiServices) -> None:
    """Embed one or more texts."""
    body = await exchange.json()
    caller = caller_of(exchange)
    await fill_model(services, body, "embeddings", caller)
    EMBEDDING.check(body)
    name = body["model"]
    body["input"] = await without_tokens(body["input"])
    servable = await find(services, name, "embeddings", caller)
    if relays(servable):
        await relay(exchange, services, servable, "embeddings", body)
        return
    request = Embed(_texts(body["input"]), body.get("dimensions"))
    with Presence(exchange):
        result = await services.runner.call("embeddings", name, request, caller)
    if not isinstance(result, Vectors):
        raise PorticoError(f"'{name}' did not answer the embedding request with embeddings.")
    await exchange.answer(200, orjson.dumps(document(result, name, body.get("encoding_format"))))


def document(vectors: Vectors, name: str, encoding: str | None) -> Mapping[str, Any]:
    """Return vectors in OpenAI's format: numbers unless ``encoding`` is ``base64``."""
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(data).decode() if encoding == "base64" else _numbers(data),
            }
            for index, data in enumerate(vectors.data)
        ],
        "model": vectors.model or name,
        "usage": {
            "prompt_tokens": vectors.usage.prompt_tokens,
            "total_tokens": vectors.usage.prompt_tokens,
        },
    }


def _numbers(data: bytes) -> list[float]:
    numbers = array("f", data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def _texts(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
