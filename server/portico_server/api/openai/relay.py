"""The hot path of chat, completions and embeddings: find the model, pass the request to it, and pass its response back
as bytes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Protocol

from portico.wire import Usage
from portico_server.api.errors import RawHeaders
from portico_server.api.exchange import Exchange, Message, Presence
from portico_server.api.services import ApiServices
from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import Principal
from portico_server.core.relay import CAPABILITY, Operation, Relay
from portico_server.core.servable import Relays, Servable, relays, task_advice


class AnswerRecorder(Protocol):
    """Stores the answer to a chat request: `portico_server.features.stored_chats.stored_chats.ChatRecorder`."""

    async def keep(self, answer: bytes) -> None:
        """Store a complete answer."""

    def follow(self, chunks: AsyncIterator[bytes], usage: Callable[[], Usage]) -> AsyncGenerator[bytes, None]:
        """Yield the chunks of a stream, and store the answer before yielding the last chunk."""


def caller_of(exchange: Exchange) -> Principal:
    """Return the caller that the gateway identified."""
    assert exchange.caller is not None
    return exchange.caller


async def fill_model(
    services: ApiServices, body: dict[str, Any], operation: Operation, caller: Principal
) -> None:
    """Set the model of a request without one, if the caller has only one model for this operation.

    Otherwise raise `InvalidRequest`.
    """
    if body.get("model") is None:
        body["model"] = await services.registry.only_model(CAPABILITY[operation], caller)


async def find(services: ApiServices, name: str, operation: Operation, caller: Principal) -> Servable:
    """Return the model or app ``name``. If it does not support ``operation``, raise an error that names a model or app
    that does.
    """
    servable = await services.registry.resolve(name, caller)
    capability = CAPABILITY[operation]
    if capability in servable.card.capabilities:
        return servable
    can = ", ".join(sorted(servable.card.capabilities)) or "nothing else"
    hint = task_advice(servable.card, capability) or await _alternative(services, capability, caller)
    raise InvalidRequest(
        f"The model '{name}' does not support {operation}; it supports {can}.{hint}",
        code="unsupported_operation",
        param="model",
    )


async def _alternative(services: ApiServices, capability: str, caller: Principal) -> str:
    """Return a sentence that names a model or app with this capability."""
    names = await services.registry.names_with(capability, caller, "model", "app")
    return f" Use {names[0]!r} instead." if names else " No model on this daemon supports it."


async def relay(
    exchange: Exchange,
    services: ApiServices,
    servable: Relays,
    operation: Operation,
    body: dict[str, Any],
    recorder: AnswerRecorder | None = None,
) -> None:
    """Relay a request and its response as bytes; ``recorder`` records the response. If the client leaves, the relay is
    cancelled.
    """
    request = Relay(operation, body)
    if request.stream:
        await _relay_stream(exchange, services, servable, request, recorder)
        return
    with Presence(exchange):
        relay_response = await services.runner.relay(servable, body["model"], request, caller_of(exchange))
        exchange.name_unenforced(relay_response.unenforced)
        data = await relay_response.read()
        if recorder is not None:
            await recorder.keep(data)
    await exchange.answer(200, data, content_type(relay_response.media_type))


async def _relay_stream(
    exchange: Exchange,
    services: ApiServices,
    servable: Relays,
    request: Relay,
    recorder: AnswerRecorder | None,
) -> None:
    async def begin(head: Message) -> AsyncIterator[bytes]:
        relay_response = await services.runner.relay(
            servable, request.body["model"], request, caller_of(exchange)
        )
        exchange.name_unenforced(relay_response.unenforced)
        if not relay_response.media_type.startswith("text/event-stream"):
            head["headers"] = content_type(relay_response.media_type)
        if recorder is None:
            return relay_response.chunks
        return recorder.follow(relay_response.chunks, lambda: relay_response.usage)

    await exchange.stream(begin, tells_errors=True)


async def relaying(services: ApiServices, request: Relay, caller: Principal) -> Relays:
    """Return the model for a request. Raise `InvalidRequest` if the request names an app, because apps cannot answer
    relayed requests.
    """
    name = request.body["model"]
    servable = await find(services, name, request.operation, caller)
    if not relays(servable):
        raise InvalidRequest(
            f"'{name}' does not support {request.operation} over HTTP.",
            code="unsupported_operation",
            param="model",
        )
    return servable


def content_type(media_type: str) -> RawHeaders:
    """Return the headers of a response of this media type."""
    return [(b"content-type", media_type.encode("latin-1"))]
