"""Holds calls back until a provider allows them: so many requests and so many tokens a minute."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from portico_server.core.errors import (
    TooMany,
)
from portico_server.core.rate_bucket import RateBucket
from portico_server.core.relay import Relay, RelayResponse
from portico_server.models.in_flight import HeldAnswer
from portico_server.models.protocol import EngineClient
from portico_server.models.token_usage import estimate_tokens

MINUTE_S = 60.0


class PacedClient:
    """A `EngineClient` before another one. Callers wait for their turn in the order in which they came.

    ``requests`` and ``tokens`` are for a minute, ``None`` for no limit; ``patience`` is the longest wait in seconds.
    """

    def __init__(
        self, inner: EngineClient, name: str, *, requests: int | None, tokens: int | None, max_wait_s: float
    ) -> None:
        self._inner = inner
        self._name = name
        self._max_wait_s = max_wait_s
        now = asyncio.get_running_loop().time()
        self._requests = None if requests is None else RateBucket(requests, MINUTE_S, now)
        self._tokens = None if tokens is None else RateBucket(tokens, MINUTE_S, now)

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.models.protocol.EngineClient`. Raises `TooMany` if the turn would come too late."""
        guess = reserved_tokens(request.body) if self._tokens is not None else 0
        await self._turn(guess, deadline)
        try:
            relay_response = await self._inner.relay(request, deadline)
        except BaseException:
            self._correct(guess, 0)
            raise

        def left(_error: BaseException | None) -> None:
            used_tokens = relay_response.usage.prompt_tokens + relay_response.usage.completion_tokens
            self._correct(guess, used_tokens or guess)

        relay_response.chunks = HeldAnswer(relay_response.chunks, left)
        return relay_response

    async def _turn(self, tokens: int, deadline: float | None) -> None:
        loop = asyncio.get_running_loop()
        # Taken at once, so that whoever comes later waits behind us.
        wait = max(self._take(self._requests, 1), self._take(self._tokens, tokens))
        remaining_s = self._max_wait_s if deadline is None else min(self._max_wait_s, deadline - loop.time())
        if wait > remaining_s:
            self._give_back(tokens)
            raise TooMany(
                f"'{self._name}' is called more often than its limit for this provider allows; the next turn comes in "
                f"{wait:.0f} s, which is longer than the {max(0.0, remaining_s):.0f} s that a call waits. "
                "Try again later, or "
                "set 'requests_per_minute' and 'tokens_per_minute' of the model to what the provider really allows.",
                code="provider_limit",
                retry_after=wait,
            )
        if wait:
            try:
                await asyncio.sleep(wait)  # time is what is waited for
            except BaseException:
                self._give_back(tokens)
                raise

    def _take(self, bucket: RateBucket | None, amount: float) -> float:
        """Take ``amount``; the seconds until it is really there."""
        if bucket is None:
            return 0.0
        now = asyncio.get_running_loop().time()
        bucket.take(min(amount, bucket.size), now)  # a call above the limit of a minute waits for a full one
        return bucket.wait(0, now)

    def _give_back(self, tokens: int) -> None:
        self._take(self._requests, -1)
        self._take(self._tokens, -min(tokens, self._tokens.size if self._tokens else 0))

    def _correct(self, guess: int, used_tokens: int) -> None:
        """Put what a call really took in place of what was taken for it."""
        if self._tokens is not None:
            self._tokens.take(used_tokens - min(guess, self._tokens.size), asyncio.get_running_loop().time())


def reserved_tokens(body: Mapping[str, Any]) -> int:
    """Tokens that a call may take: its texts, and the most that it lets the model answer."""
    max_tokens = body.get("max_completion_tokens") or body.get("max_tokens") or 0
    return estimate_tokens(body) + (max_tokens if isinstance(max_tokens, int) else 0)
