"""Internal requests: the daemon processes them like a client's requests, but without the network.

So a line of a batch gets the same checks, limits, errors and usage rows as a call over HTTP. Other daemons on the same
database use internal requests to query the runs in this daemon's memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from typing import Any, Final

import orjson

from portico.wire import event_to_json
from portico_server.api import errors
from portico_server.api.adapter import Handler
from portico_server.api.exchange import Exchange, Message
from portico_server.api.routes import HOT, find_route
from portico_server.api.services import ApiServices
from portico_server.batches.spec import AnswerLine, LineAnswer
from portico_server.core import pools
from portico_server.core.errors import PorticoError, TooMany
from portico_server.core.principal import Principal
from portico_server.db.feed import Answer
from portico_server.runs.run import Run
from portico_server.settings import MB_BYTES

RUN_QUESTION: Final = "run"
"""Kind of question that another daemon asks about a run: ``do`` is ``describe``, ``cancel``, ``events`` or
``steps``.
"""

EVENT_WAIT_S: Final = 1.0
"""Seconds for which a query for a run's next events waits if there are none yet."""

CANCEL_WAIT_S: Final = 2.0
"""Seconds for which a query that cancels a run waits for the run to end."""

MAX_EVENT_BYTES: Final = 256 * 1024
"""Maximum size of the events in one answer, in bytes. The remaining events need another query."""

_HEADERS: Final = [(b"content-type", b"application/json")]


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


def runs_in_memory(services: ApiServices) -> Answer:
    """Return the function that answers other daemons' queries about the runs in this daemon's memory.

    The querying daemon decides who may see a run. It has the same rights as anyone with access to the database.
    """

    async def answer(question: Mapping[str, Any]) -> Any:
        run = services.runner.get(question["run"])
        if run is None or run.durable:
            return None
        match question["do"]:
            case "events":
                return await _next_events(run, question["after"])
            case "steps":
                rows = [list(row) for row in await services.flows.journals.steps(run.id)]
                return {"steps": rows, "result": services.flows.journals.without_secrets(run.id, run.result)}
            case "cancel" if run.task is not None and not run.task.done():
                run.task.cancel()
                await asyncio.wait([run.task], timeout=CANCEL_WAIT_S)
        return {
            **{
                name: getattr(run, name)
                for name in ("id", "kind", "name", "status", "created_at", "finished_at")
            },
            "error": run.error.to_json()["error"] if run.error else None,
            "usage": asdict(run.usage),
            "last_event": run.log.last,
            "owner": run.caller.id,
        }

    return answer


async def _next_events(run: Run, after: int) -> Mapping[str, Any]:
    numbered_events, has_ended = await run.log.since(after, EVENT_WAIT_S)
    events: list[Any] = []
    size = 0
    for number, event in numbered_events:
        events.append((number, event.type, event_to_json(event)))
        size += len(orjson.dumps(events[-1]))
        if size > MAX_EVENT_BYTES:
            break
    return {"events": events, "ended": has_ended and len(events) == len(numbered_events)}


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
