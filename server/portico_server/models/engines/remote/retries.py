"""Retries a call when that is safe: the server refused it temporarily, and no part of an answer has arrived."""

from __future__ import annotations

import asyncio
import random

from portico_server.core.errors import (
    PorticoError,
    Unavailable,
)
from portico_server.core.relay import Relay, RelayResponse
from portico_server.models.openai_wire import PASSING_STATUSES, EngineRefused, UpstreamFailed
from portico_server.models.protocol import EngineClient

FIRST_PAUSE_S = 0.5
"""Seconds before the first retry; doubled each time."""

MAX_PAUSE_S = 20.0
"""Maximum seconds that a caller waits for one retry. If the server asks for a longer wait, the caller immediately
receives the server's error.
"""

SPENT_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
"""Codes of a 429 that waiting does not resolve."""


def is_passing(error: PorticoError) -> bool:
    """Return whether the same call is likely to succeed a moment later."""
    if isinstance(error, EngineRefused):
        return error.status == 429 and error.code not in SPENT_CODES and error.type not in SPENT_CODES
    if isinstance(error, UpstreamFailed):
        return error.upstream in PASSING_STATUSES
    return isinstance(error, Unavailable)


def pause_before(attempt: int, error: PorticoError, chance: float) -> float | None:
    """Return the seconds to wait before attempt number ``attempt`` (the first retry is 1), or ``None`` for no retry.

    The server's ``Retry-After`` takes precedence; otherwise the wait doubles each time, spread by ``chance`` in [0, 1)
    so that many callers do not retry together.
    """
    if not is_passing(error):
        return None
    if error.retry_after is not None:
        return error.retry_after if error.retry_after <= MAX_PAUSE_S else None
    return min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (attempt - 1)) * (0.5 + chance / 2)


class RetryingClient:
    """An `EngineClient` that retries a call to another client up to ``retries`` times before the first byte."""

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
                if (
                    request.fails_fast
                    or pause is None
                    or attempt > self._retries
                    or (deadline and now + pause >= deadline)
                ):
                    raise
            await asyncio.sleep(pause)  # no event announces that a server has recovered
