"""``POST /v1/completions``: continue a prompt, for clients that still use this endpoint."""

from __future__ import annotations

from portico_server.api.exchange import Exchange
from portico_server.api.openai.bodies import COMPLETION
from portico_server.api.openai.relay import caller_of, fill_model, find, relay
from portico_server.api.services import ApiServices
from portico_server.core.errors import InvalidRequest
from portico_server.core.servable import relays


async def create(exchange: Exchange, services: ApiServices) -> None:
    """Continue a prompt."""
    body = await exchange.json()
    caller = caller_of(exchange)
    await fill_model(services, body, "completions", caller)
    COMPLETION.check(body)
    servable = await find(services, body["model"], "completions", caller)
    if not relays(servable):
        raise InvalidRequest(
            f"'{body['model']}' is a chat model; call /v1/chat/completions.",
            code="unsupported_operation",
            param="model",
        )
    await relay(exchange, services, servable, "completions", body)
