"""``/api/pull`` and ``/api/delete``: fetch a model from its source, and remove a model."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import orjson

from portico.wire import Failed, Progressed
from portico_server.api.exchange import Exchange, Presence
from portico_server.api.openai.relay import caller_of
from portico_server.api.run_events import durable_events
from portico_server.api.services import ApiServices
from portico_server.core.errors import EngineFailed
from portico_server.features.ollama.answer import NDJSON, json_line
from portico_server.features.ollama.bodies import DELETED, PULLED
from portico_server.features.ollama.names import required_name, without_tag
from portico_server.models.spec import ModelSpec

SUCCESS = {"status": "success"}


async def pull(exchange: Exchange, services: ApiServices) -> None:
    """Fetch a model from its source and add it; the source becomes the model's name."""
    body = await exchange.json()
    PULLED.check(body)
    caller = caller_of(exchange)
    caller.require("admin")
    name = without_tag(services, required_name(body))
    spec = None if services.models.deployments.find(name) else ModelSpec(name, source=name)
    run_id = await services.models.downloads.pull(name, caller)
    lines = _progress(services, run_id, name, spec)
    if body.get("stream") is not False:
        await exchange.stream(lines, NDJSON)
        return
    with Presence(exchange):
        async with aclosing(lines):
            async for _line in lines:
                pass
    await exchange.answer(200, orjson.dumps(SUCCESS))


async def _progress(
    services: ApiServices, run_id: str, name: str, spec: ModelSpec | None
) -> AsyncGenerator[bytes, None]:
    """Yield the progress of the run that fetches a model, then add the model if it is new."""
    yield json_line({"status": "pulling manifest"})
    # Programs draw one bar for each digest.
    digest = f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"
    async for _number, kind, event in durable_events(services, run_id):
        if kind == Progressed.type and event.get("done") is not None:
            yield json_line({"status": f"pulling {name}", "digest": digest, **_amounts(event)})
        elif kind == Failed.type:
            raise EngineFailed(event["error"]["message"], code=event["error"].get("code"))
    if spec is not None:
        await services.models.add(spec)
    yield json_line(SUCCESS)


def _amounts(event: Mapping[str, Any]) -> dict[str, int]:
    """Return the bytes that are here, and the number of all bytes if it is known."""
    amounts = {"completed": event["done"], "total": event.get("total")}
    return {name: int(amount) for name, amount in amounts.items() if amount is not None}


async def delete(exchange: Exchange, services: ApiServices) -> None:
    """Remove a model. Its files stay on disk."""
    body = await exchange.json()
    DELETED.check(body)
    caller_of(exchange).require("admin")
    await services.models.remove(without_tag(services, required_name(body)))
    await exchange.answer(200, b"{}")
