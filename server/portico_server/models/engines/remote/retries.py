"""Repeats a call where that is safe: it was refused for now, and nothing of an answer has come."""

from __future__ import annotations

import asyncio
import random

from portico_server.core.errors import (
    PorticoError,
    Unavailable,
)
from portico_server.core.relay import Relay, RelayResponse
from portico_server.models.openai_wire import EngineRefused, UpstreamFailed
from portico_server.models.protocol import EngineClient

FIRST_PAUSE_S = 0.5
"""Seconds before the first further attempt; doubled each time."""

MAX_PAUSE_S = 20.0
"""Seconds that a caller is kept waiting for one further attempt. Who is asked to come back later than that is
told so at once."""

PASSING_STATUSES = frozenset({502, 503, 504, 529})
"""A server's own failures that pass. A 500 is not among them: the call may have been carried out."""

SPENT_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
"""Codes of a 429 that no waiting helps with."""


def is_passing(error: PorticoError) -> bool:
    """Whether the same call may well succeed a moment later."""
    if isinstance(error, EngineRefused):
        return error.status == 429 and error.code not in SPENT_CODES and error.type not in SPENT_CODES
    if isinstance(error, UpstreamFailed):
        return error.upstream in PASSING_STATUSES
    return isinstance(error, Unavailable)


def pause_before(attempt: int, error: PorticoError, chance: float) -> float | None:
    """Seconds to wait before attempt number ``attempt`` (the first repetition is 1); ``None``: do not.

    What the server asked for in ``Retry-After`` counts; otherwise twice as long each time, spread by
    ``chance`` in [0, 1) so that many callers do not come back together.
    """
    if not is_passing(error):
        return None
    if error.retry_after is not None:
        return error.retry_after if error.retry_after <= MAX_PAUSE_S else None
    return min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (attempt - 1)) * (0.5 + chance / 2)


class RetryingClient:
    """A `EngineClient` that asks another one up to ``retries`` further times before the first byte."""

    def __init__(self, inner: EngineClient, retries: int) -> None:
        self._inner = inner
        self._retries = retries

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.models.protocol.EngineClient`."""
        attempt = 0
        while True:
            try:
                return await self._inner.relay(request, deadline)
            except PorticoError as error:
                attempt += 1
                pause = pause_before(attempt, error, random.random())  # noqa: S311  # spreads load
                now = asyncio.get_running_loop().time()
                if pause is None or attempt > self._retries or (deadline and now + pause >= deadline):
                    raise
            await asyncio.sleep(pause)  # nothing announces that a server has recovered
