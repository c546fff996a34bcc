"""``/v1/realtime``: a session over a WebSocket.

Source: https://platform.openai.com/docs/api-reference/realtime.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qs

from portico_server.api import errors
from portico_server.api.exchange import ClientLeft, Exchange
from portico_server.api.openai.relay import caller_of
from portico_server.api.services import ApiServices
from portico_server.api.socket import IncomingMessages, WebSocket, read_message
from portico_server.core.errors import InvalidRequest, TooMany
from portico_server.core.ids import new_id
from portico_server.core.invalid import wrong
from portico_server.core.principal import Principal
from portico_server.core.rate_bucket import RateBucket
from portico_server.features.realtime import config
from portico_server.features.realtime.audio import Voices
from portico_server.features.realtime.context import error_event
from portico_server.features.realtime.session import APPEND, RealtimeSession
from portico_server.features.responses.api.service import ResponseService

PATH: Final = "/v1/realtime"
PROTOCOL: Final = "realtime"
"""The WebSocket subprotocol that browsers request."""

MAX_SESSIONS_PER_KEY: Final = 64
"""Maximum number of open sessions per key."""

MAX_WAITING_MESSAGES: Final = 8
"""Maximum number of queued messages. At this limit, no more messages are read from the connection."""

MAX_COST_PER_SECOND: Final = 500.0
"""Maximum cost per second for the events in all of a key's sessions. See `EventBudget`."""

MAX_COST_AT_ONCE: Final = 500.0
"""Maximum cost of a burst of events, before `MAX_COST_PER_SECOND` applies."""

BYTES_PER_COST: Final = 4_096
"""Number of bytes that cost as much as one event. They include the event, and everything that the session sends or
checks again because of the event.
"""

SOUND_COST_RATIO: Final = 0.2
"""Cost of a piece of audio relative to another event. A microphone sends fifty pieces per second."""

SOUND_BYTES_PER_COST: Final = 65_536

_BUDGET: Final = "portico.realtime_budget"


class EventBudget:
    """A budget for the cost of events over time: a session reads no further events until its key has paid for the last
    event.
    """

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], Awaitable[None]]) -> None:
        self._clock = clock
        self._sleep = sleep
        self._room = RateBucket(MAX_COST_AT_ONCE, MAX_COST_AT_ONCE / MAX_COST_PER_SECOND, clock())

    async def pay(self, cost: float) -> None:
        """Deduct a cost from the budget, and wait until the budget covers it."""
        self._room.take(cost, self._clock())
        if wait := self._room.wait(0, self._clock()):
            await self._sleep(wait)


async def serve(socket: WebSocket, services: ApiServices) -> None:
    """Run a session until its client leaves, the session is idle for too long, or it has lasted an hour."""
    exchange = socket.exchange
    caller = caller_of(exchange)
    budget = _require_room(exchange)
    voices = Voices(services.registry, services.runner, caller)
    session_config = await _open(exchange, services, caller, voices)
    await socket.accept(PROTOCOL if PROTOCOL in exchange.scope.get("subprotocols", ()) else None)
    async with IncomingMessages(socket, MAX_WAITING_MESSAGES) as incoming:

        async def emit(kind: str, **fields: Any) -> None:
            try:
                await socket.send({"type": kind, "event_id": new_id("event_"), **fields})
            except ClientLeft:
                incoming.leave()

        bound = "portico.session" in exchange.scope
        service: ResponseService = await services.features.load("responses")
        session = RealtimeSession(
            service.responder, caller, session_config, emit, socket.keep, voices, bound=bound
        )
        try:
            await session.begin()
            await _hold(session, socket, incoming, budget, services.settings.socket_idle_timeout)
        finally:
            await session.close()


def _require_room(exchange: Exchange) -> EventBudget:
    """Return the budget that all sessions of a key share. A caller without a key gets a budget for this session.

    Raise `TooMany` if the key has reached its session limit.
    """
    beside = [
        other_exchange for other_exchange in exchange.beside or () if other_exchange.scope["path"] == PATH
    ]
    if len(beside) > MAX_SESSIONS_PER_KEY:
        raise TooMany(
            f"This API key has {MAX_SESSIONS_PER_KEY} Realtime sessions open, the maximum. Close a session.",
            code="too_many_sessions",
            retry_after=1.0,
        )
    shared_budgets = (
        other_exchange.scope[_BUDGET] for other_exchange in beside if _BUDGET in other_exchange.scope
    )
    budget: EventBudget = next(shared_budgets, None) or EventBudget(
        asyncio.get_running_loop().time, asyncio.sleep
    )
    exchange.scope[_BUDGET] = budget
    return budget


async def _open(
    exchange: Exchange, services: ApiServices, caller: Principal, voices: Voices
) -> config.Config:
    """Return the configuration of the session that the URL's parameters request."""
    query = parse_qs(exchange.scope["query_string"].decode("latin-1"))
    session: dict[str, Any] | None = exchange.scope.get("portico.session")
    if "call_id" in query:
        wrong("call_id", "names a call, but calls are not supported: name a 'model'")
    kind = query.get("intent", [config.REALTIME if session is None else session["type"]])[-1]
    if kind not in (config.REALTIME, config.TRANSCRIPTION):
        wrong("intent", f"must be '{config.TRANSCRIPTION}', or omitted")
    if session is not None and kind != session["type"]:
        wrong("intent", f"must be '{session['type']}', as in the client secret", code="not_in_client_secret")
    model = query.get("model", [""])[-1]
    if kind == config.TRANSCRIPTION:
        model_name = model or None
        if session is not None:
            model_name = config.transcription_of(session).get("model")
            _require_same(model, model_name)
        await voices.able("transcription", model_name, "model")
        new_session = config.opened_to_write(model_name)
    else:
        model = model or (session or {}).get("model", "")
        if not model:
            model = await services.registry.only_model("chat", caller)
        if session is not None:
            _require_same(model, session["model"])
        await require_model(services, model, caller)
        new_session = config.initial_config(model)
    return new_session if session is None else config.updated(new_session, session)


def _require_same(model: str, granted_model: str | None) -> None:
    """Raise `InvalidRequest` if the model differs from the model of the client secret."""
    if model and model != granted_model:
        wrong(
            "model",
            f"must be '{granted_model}', the model of the client secret",
            code="not_in_client_secret",
        )


async def require_model(services: ApiServices, model: str, caller: Principal) -> None:
    """Raise `NotFound` or `InvalidRequest` unless the caller can have conversations with the model."""
    servable = await services.registry.resolve(model, caller)
    if "chat" not in servable.card.capabilities:
        can = ", ".join(sorted(servable.card.capabilities)) or "nothing else"
        raise InvalidRequest(
            f"The model '{model}' does not support conversations; it supports {can}. A session needs a chat "
            "model or a chat app.",
            code="unsupported_operation",
            param="model",
        )


async def _hold(
    session: RealtimeSession,
    socket: WebSocket,
    incoming: IncomingMessages,
    budget: EventBudget,
    idle_s: float,
) -> None:
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + config.MAX_SESSION_S
    while loop.time() < ends_at:
        try:
            async with asyncio.timeout_at(min(loop.time() + idle_s, ends_at)):
                message = await incoming.get()
        except TimeoutError:
            if session.busy or loop.time() >= ends_at:
                continue
            await socket.close(reason=f"idle for {idle_s:g} s")
            return
        try:
            await budget.pay(await _handle(session, socket, message))
        finally:
            socket.release(message)
            del (
                message
            )  # the message would otherwise stay in memory, uncounted, until the next message arrives
    over = InvalidRequest(
        f"A session lasts for {config.MAX_SESSION_S // 60} minutes. Open a new one to continue.",
        code="session_expired",
    )
    await socket.send(error_event(over, None))
    await socket.close()


async def _handle(session: RealtimeSession, socket: WebSocket, message: str | bytes) -> float:
    """Handle an event and return the event's cost."""
    event_id, base, scale, size = None, 1.0, BYTES_PER_COST, len(message)
    try:
        event = await read_message(message)
        event_id = event.get("event_id")
        size += session.weight(event)
        is_sound = event.get("type") == APPEND
        scale = SOUND_BYTES_PER_COST if is_sound else BYTES_PER_COST
        await session.handle(event)
        base = SOUND_COST_RATIO if is_sound else 1.0
    except ClientLeft:
        raise
    except Exception as error:  # noqa: BLE001  # the connection outlives it: it is logged and reported
        await socket.send(error_event(errors.to_portico_error(error, socket.exchange.id), event_id))
    return base + size / scale
