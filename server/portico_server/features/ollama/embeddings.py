"""``/api/embed`` and ``/api/embeddings``: embeddings of texts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson

from portico_server.api.exchange import Exchange, Presence
from portico_server.api.openai.bodies import EMBEDDING
from portico_server.api.openai.embeddings import document
from portico_server.api.openai.relay import caller_of
from portico_server.api.services import ApiServices
from portico_server.core.errors import PorticoError
from portico_server.core.relay import Relay
from portico_server.core.request import Embed, Vectors
from portico_server.core.servable import relays
from portico_server.features.ollama.answer import parsed_answer
from portico_server.features.ollama.bodies import EMBEDDED, EMBEDDED_ONE
from portico_server.features.ollama.names import named_servable


async def embed(exchange: Exchange, services: ApiServices) -> None:
    """Return the vectors of one or more texts."""
    body = await exchange.json()
    EMBEDDED.check(body)
    start_time = time.perf_counter()
    embeddings = await _embed(exchange, services, body)
    await exchange.answer(
        200,
        orjson.dumps(
            {
                "model": body["model"],
                "embeddings": [item["embedding"] for item in embeddings["data"]],
                "total_duration": int((time.perf_counter() - start_time) * 1e9),
                "load_duration": 0,
                "prompt_eval_count": embeddings["usage"]["prompt_tokens"],
            }
        ),
    )


async def embed_one(exchange: Exchange, services: ApiServices) -> None:
    """Return the vector of one text."""
    body = await exchange.json()
    EMBEDDED_ONE.check(body)
    embeddings = await _embed(exchange, services, {"model": body["model"], "input": body["prompt"]})
    await exchange.answer(200, orjson.dumps({"embedding": embeddings["data"][0]["embedding"]}))


async def _embed(exchange: Exchange, services: ApiServices, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the answer in the format of OpenAI's API, with vectors as numbers."""
    caller = caller_of(exchange)
    request_body = {
        name: body[name] for name in ("model", "input", "dimensions") if body.get(name) is not None
    }
    EMBEDDING.check(request_body)
    name, servable = await named_servable(services, body["model"], "embeddings", caller)
    request_body["model"] = name
    with Presence(exchange):
        if relays(servable):
            relay_response = await services.runner.relay(
                servable, name, Relay("embeddings", request_body), caller
            )
            embeddings: Mapping[str, Any] = parsed_answer(await relay_response.read())
            return embeddings
        texts = (
            (request_body["input"],)
            if isinstance(request_body["input"], str)
            else tuple(request_body["input"])
        )
        result = await services.runner.call(
            "embeddings", name, Embed(texts, request_body.get("dimensions")), caller
        )
    if not isinstance(result, Vectors):
        raise PorticoError(f"'{name}' did not answer the embedding request with embeddings.")
    return document(result, name, None)
