"""The API calls in progress. A call ends when its key is revoked or its token expires."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final

from portico_server.api import errors
from portico_server.api.auth.credentials import OPERATOR
from portico_server.api.exchange import ClientConnection, Exchange
from portico_server.core import work_slots
from portico_server.core.errors import TooMany, Unauthenticated
from portico_server.core.principal import LOCAL, Principal

MAX_TIMER_S: Final = 86_400.0

CALL: ContextVar[int] = ContextVar("call", default=0)
"""Identity of the authenticated call that the current task belongs to."""


class CallsInProgress:
    """The calls in progress of every key. The daemon's task group runs ``renewals``."""

    def __init__(self) -> None:
        self._calls: dict[str, set[Exchange]] = {}
        """Calls in progress, keyed by key id."""
        self.renewals = asyncio.TaskGroup()
        """Tasks that check whether a call may continue after the token with which it began has expired."""

    def register(self, exchange: Exchange, caller: Principal, connection: ClientConnection | None) -> None:
        """Register a key's call. Raise `TooMany` if the key already uses its share of the connections."""
        if caller is LOCAL or caller is OPERATOR:  # these are never revoked
            return
        calls = self._calls.setdefault(caller.id, set())
        if connection is not None and len(calls) >= connection.calls_per_key:
            raise TooMany(
                f"This API key has {len(calls)} calls in progress, half of all connections of this daemon. "
                "Wait for a call to end, or close a connection.",
                code="too_many_connections",
                retry_after=1.0,
            )
        exchange.task = asyncio.current_task()
        if exchange.expires_at:
            self._end_expired(exchange)
        exchange.beside = calls
        work_slots.KEY.set(caller.id)
        CALL.set(id(exchange))
        calls.add(exchange)

    def unregister(self, exchange: Exchange, key: str) -> None:
        """Remove a call that has ended."""
        exchange.beside = None
        if exchange.expiry is not None:
            exchange.expiry.cancel()
        exchange.task = (
            None  # the task references this exchange: without the cycle, both are freed immediately
        )
        calls = self._calls.get(key)
        if calls is not None:
            calls.discard(exchange)
            if not calls:
                del self._calls[key]

    def _end_expired(self, exchange: Exchange) -> None:
        """End a call, including a stream, when its token expires and the caller is no longer signed in."""
        remaining_s = exchange.expires_at - time.time()
        if remaining_s > 0:
            later = asyncio.get_running_loop().call_later
            exchange.expiry = later(min(remaining_s, MAX_TIMER_S), self._end_expired, exchange)
        elif exchange.task is not None and exchange.renew is not None:
            self.renewals.create_task(self._renew(exchange, exchange.renew))
        elif exchange.task is not None:
            exchange.revoked = Unauthenticated(
                "The token of this call has expired. Sign in again.", code="token_expired"
            )
            exchange.task.cancel()

    async def _renew(self, exchange: Exchange, renew: Callable[[], Awaitable[float]]) -> None:
        """Let a call continue while its caller is signed in; otherwise end the call."""
        try:
            exchange.expires_at = await renew()
            if exchange.expires_at <= time.time():
                exchange.renew = None
        except Exception as error:  # noqa: BLE001  # the outermost of its task: it is logged
            errors.to_portico_error(error, exchange.id)
            exchange.renew = None
        self._end_expired(exchange)

    async def end(self, key: str, sign_in: str = "") -> None:
        """End the calls of a key that was revoked or lost scopes, including streams, but not the call that requested
        this.

        With ``sign_in``, end only the calls of the browser in which the user signed out.
        """
        for exchange in tuple(self._calls.get(key, ())):
            if sign_in not in ("", exchange.sign_in):
                continue
            if exchange.task is not None and id(exchange) != CALL.get():
                exchange.revoked = (
                    Unauthenticated("You are signed out. Sign in again.", code="sign_in_ended")
                    if sign_in
                    else Unauthenticated("This API key was revoked or lost scopes.", code="key_revoked")
                )
                exchange.task.cancel()
