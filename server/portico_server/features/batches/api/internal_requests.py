"""Internal requests: the daemon processes them like a client's requests, but without the network.

So a line of a batch gets the same checks, limits, errors and usage rows as a call over HTTP.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any, Final

import orjson

from portico_server.api import errors
from portico_server.api.adapter import Handler
from portico_server.api.exchange import Exchange, Message
from portico_server.api.routes import HOT, find_route
from portico_server.api.services import ApiServices
from portico_server.core import pools
from portico_server.core.errors import PorticoError, TooMany
from portico_server.core.principal import Principal
from portico_server.features.batches.batches import BatchService
from portico_server.features.batches.spec import AnswerLine, LineAnswer
from portico_server.settings import MB_BYTES

_HEADERS: Final = [(b"content-type", b"application/json")]


def build_batches(services: ApiServices) -> BatchService:
    """Return the service of the feature `batches`."""
    settings = services.settings
    return BatchService(
        services.database,
        services.registry,
        services.runner,
        services.scheduler,
        services.files,
        ask=internal_request(services),
        at_once=settings.batch_concurrency,
        longest=settings.max_body_mb * MB_BYTES,
        yields=settings.batch_yields,
    )


def internal_request(services: ApiServices) -> AnswerLine:
    """Return the function that answers internal requests."""
    limit = services.settings.max_body_mb * MB_BYTES

    async def ask(endpoint: str, body: bytes, caller: Principal) -> LineAnswer:
        recorded_exchange = _RecordedExchange(body)
        scope = {"type": "http", "method": "POST", "path": endpoint, "headers": _HEADERS}
        shape = find_route(endpoint).shape_for(scope)
        exchange = Exchange(scope, recorded_exchange.receive, recorded_exchange.send, limit, shape)
        exchange.caller = caller
        portico_error: PorticoError | None = None
        try:
            await _handler(endpoint)(exchange, services)
        except Exception as error:  # noqa: BLE001  # the outermost: it is logged and reported
            portico_error = errors.to_portico_error(error, exchange.id)
            await exchange.refuse(portico_error)
        return LineAnswer(
            recorded_exchange.status,
            bytes(recorded_exchange.body),
            exchange.id,
            ours=isinstance(portico_error, TooMany),
            retry_after=None if portico_error is None else portico_error.retry_after,
        )

    return ask


class _RecordedExchange:
    """Both ends of an exchange: the request that the daemon receives, and a record of its response."""

    def __init__(self, body: bytes) -> None:
        self._request: Message | None = {"type": "http.request", "body": body, "more_body": False}
        self.status = 500
        self.body = bytearray()

    async def receive(self) -> Message:
        message, self._request = self._request, None
        if message is None:
            # an internal client never leaves; its request can only be cancelled
            await asyncio.get_running_loop().create_future()
            raise AssertionError("unreachable")
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.body += message.get("body", b"")


async def _rerank(exchange: Exchange, services: ApiServices) -> None:
    """Answer ``/v1/rerank``. FastAPI serves this path over HTTP; its module is not imported when the daemon starts."""
    body = await exchange.json()
    pydantic, rerank = await pools.LOADING.run(_modules)
    try:
        request = rerank.RerankRequest.model_validate(body)
    except pydantic.ValidationError as error:
        problems = [{**problem, "loc": ("body", *problem["loc"])} for problem in error.errors()]
        raise errors.from_validation(problems) from None
    ranking = await rerank.create_rerank(request, services, exchange.caller)
    await exchange.answer(200, orjson.dumps(ranking.model_dump(exclude_none=True)))


def _modules() -> tuple[Any, Any]:
    return import_module("pydantic"), import_module("portico_server.api.openai.rerank")


def _handler(endpoint: str) -> Handler:
    """Return the function that answers ``POST`` requests to an endpoint of batches."""
    handler = HOT.get(endpoint, {}).get("POST")
    return handler if handler is not None else _rerank
