"""Delays calls until a provider's limits on requests and tokens per minute allow them."""

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
    """An `EngineClient` in front of another client. Callers wait for their turn in order of arrival.

    ``requests`` and ``tokens`` are limits per minute, ``None`` for no limit; ``max_wait_s`` is the longest wait in
    seconds.
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
        """See `portico_server.models.protocol.EngineClient`. Raises `TooMany` if the call would have to wait too
        long.
        """
        guess = reserved_tokens(request.body) if self._tokens is not None else 0
        await self._turn(guess, deadline)
        try:
            relay_response = await self._inner.relay(request, deadline)
        except BaseException:
            self._correct(guess, 0)
            raise

        def on_end(_error: BaseException | None) -> None:
            used_tokens = relay_response.usage.prompt_tokens + relay_response.usage.completion_tokens
            self._correct(guess, used_tokens or guess)

        relay_response.chunks = HeldAnswer(relay_response.chunks, on_end)
        return relay_response

    async def _turn(self, tokens: int, deadline: float | None) -> None:
        loop = asyncio.get_running_loop()
        # Reserved immediately, so that later callers wait behind this call.
        wait = max(self._take(self._requests, 1), self._take(self._tokens, tokens))
        remaining_s = self._max_wait_s if deadline is None else min(self._max_wait_s, deadline - loop.time())
        if wait > remaining_s:
            self._give_back(tokens)
            raise TooMany(
                f"'{self._name}' has reached its rate limit for this provider; the next call is possible in "
                f"{wait:.0f} s, which is longer than the {max(0.0, remaining_s):.0f} s that a call may wait. "
                "Try again later, or set the model's 'requests_per_minute' and 'tokens_per_minute' to the "
                "provider's real limits.",
                code="provider_limit",
                retry_after=wait,
            )
        if wait:
            try:
                await asyncio.sleep(wait)  # only time refills the buckets; no event can be awaited
            except BaseException:
                self._give_back(tokens)
                raise

    def _take(self, bucket: RateBucket | None, amount: float) -> float:
        """Take ``amount`` from the bucket; return the seconds until it is available."""
        if bucket is None:
            return 0.0
        now = asyncio.get_running_loop().time()
        bucket.take(
            min(amount, bucket.size), now
        )  # a call larger than the limit per minute waits for a full bucket
        return bucket.wait(0, now)

    def _give_back(self, tokens: int) -> None:
        self._take(self._requests, -1)
        self._take(self._tokens, -min(tokens, self._tokens.size if self._tokens else 0))

    def _correct(self, guess: int, used_tokens: int) -> None:
        """Replace the reserved amount with the tokens that a call really used."""
        if self._tokens is not None:
            self._tokens.take(used_tokens - min(guess, self._tokens.size), asyncio.get_running_loop().time())


def reserved_tokens(body: Mapping[str, Any]) -> int:
    """Return the most tokens that a call can use: an estimate for its texts, plus the limit of the answer."""
    max_tokens = body.get("max_completion_tokens") or body.get("max_tokens") or 0
    return estimate_tokens(body) + (max_tokens if isinstance(max_tokens, int) else 0)
