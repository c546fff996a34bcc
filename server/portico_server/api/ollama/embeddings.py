"""``/api/embed`` and ``/api/embeddings``: vectors."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson

from portico_server.api.exchange import Exchange, Presence
from portico_server.api.ollama.answer import (
    parsed_answer,
)
from portico_server.api.ollama.bodies import EMBEDDED, EMBEDDED_ONE
from portico_server.api.ollama.names import named_servable
from portico_server.api.openai.bodies import EMBEDDING
from portico_server.api.openai.embeddings import document
from portico_server.api.openai.relay import caller_of
from portico_server.api.services import ApiServices
from portico_server.core.errors import PorticoError
from portico_server.core.relay import Relay
from portico_server.core.request import Embed, Vectors
from portico_server.core.servable import relays


async def embed(exchange: Exchange, services: ApiServices) -> None:
    """Vectors of one text or many."""
    body = await exchange.json()
    EMBEDDED.check(body)
    started = time.perf_counter()
    found = await _embedded(exchange, services, body)
    await exchange.answer(
        200,
        orjson.dumps(
            {
                "model": body["model"],
                "embeddings": [one["embedding"] for one in found["data"]],
                "total_duration": int((time.perf_counter() - started) * 1e9),
                "load_duration": 0,
                "prompt_eval_count": found["usage"]["prompt_tokens"],
            }
        ),
    )


async def embed_one(exchange: Exchange, services: ApiServices) -> None:
    """The vector of one text."""
    body = await exchange.json()
    EMBEDDED_ONE.check(body)
    found = await _embedded(exchange, services, {"model": body["model"], "input": body["prompt"]})
    await exchange.answer(200, orjson.dumps({"embedding": found["data"][0]["embedding"]}))


async def _embedded(exchange: Exchange, services: ApiServices, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer as OpenAI's API has it."""
    caller = caller_of(exchange)
    asked = {name: body[name] for name in ("model", "input", "dimensions") if body.get(name) is not None}
    EMBEDDING.check(asked)
    name, servable = await named_servable(services, body["model"], "embeddings", caller)
    asked["model"] = name
    with Presence(exchange):
        if relays(servable):
            relayed = await services.runner.relay(servable, name, Relay("embeddings", asked), caller)
            found: Mapping[str, Any] = parsed_answer(b"".join([chunk async for chunk in relayed.chunks]))
            return found
        texts = (asked["input"],) if isinstance(asked["input"], str) else tuple(asked["input"])
        result = await services.runner.call("embeddings", name, Embed(texts, asked.get("dimensions")), caller)
    if not isinstance(result, Vectors):
        raise PorticoError(f"'{name}' answered an embedding request with something else.")
    return document(result, name, None)
