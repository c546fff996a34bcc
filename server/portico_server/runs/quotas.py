"""The usage of keys and apps with limits, in memory. After a restart, it is restored from the usage rows."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from anyio import CapacityLimiter

from portico_server.core.errors import TooLarge, TooMany
from portico_server.core.limits import UsageLimits
from portico_server.core.rate_bucket import RateBucket
from portico_server.db import files
from portico_server.db.database import Database
from portico_server.db.usage import DAY_S
from portico_server.db.usage_meters import UsageReading
from portico_server.settings import MB_BYTES

MINUTE_S = 60.0
MAX_DAYS = 8

SUMMED_S = 10.0
"""Seconds after which a key's storage is summed again. Other daemons write too."""

SUM_PAUSE_RATIO = 100
"""Minimum validity of a sum, as a multiple of the time it took. Sums thus take at most one percent of the time."""

SUM_BUDGET_S = 0.5
"""Seconds that sums for refused calls can take before they too are limited to one percent of the time."""

RETRY_AFTER_S = 1.0
"""Seconds after which a caller with too many concurrent calls can retry."""

Headers = list[tuple[bytes, bytes]]


class UsageMeter:
    """The limits of one key or app, and the remaining budget.

    A call is admitted while any budget remains. Its cost is known only when the call ends, and can overdraw the
    budget. An overdrawn budget must recover before the next call is admitted.
    """

    __slots__ = (
        *("_days", "_name", "_now", "_quotas", "_requests", "_today", "_tokens", "_turns"),
        *("calls", "elsewhere", "id", "limits", "unreported_tokens"),
    )

    def __init__(
        self,
        key_id: str,
        name: str,
        limits: UsageLimits,
        quotas: Quotas,
        now: Callable[[], float],
        today: Callable[[], float],
    ) -> None:
        self.id = key_id
        self._name = name
        self._quotas = quotas
        self._now = now
        self._today = today
        self.calls = 0
        """Calls in progress on this daemon."""
        self.elsewhere = 0
        """Calls in progress on other daemons."""
        self.unreported_tokens = 0
        """Tokens that other daemons do not know yet."""
        self._days: dict[float, int] = {}
        """Tokens by day, for the last few days. If the clock is set back, the counts of the earlier day still exist."""
        self._turns = CapacityLimiter(math.inf)
        self._requests: RateBucket | None = None
        self._tokens: RateBucket | None = None
        self.change(limits)

    def change(self, limits: UsageLimits) -> None:
        """Change the limits. Usage and calls in progress stay counted; a new limit per minute starts without usage."""
        now = self._now()
        self.limits = limits
        self._turns.total_tokens = limits.concurrency or math.inf
        self._requests = _bucket(limits.requests_per_minute, now, self._requests)
        self._tokens = _bucket(limits.tokens_per_minute, now, self._tokens)

    async def enter(self) -> None:
        """Count a call that starts. Raise `TooMany` that names the exceeded limit."""
        await self._count_start(is_call=True)

    async def add_request(self) -> None:
        """Count a request that is part of an admitted call. Raise `TooMany` that names the exceeded limit."""
        await self._count_start(is_call=False)

    async def _count_start(self, *, is_call: bool) -> None:
        claim = self._quotas.claim
        if claim is not None and await claim(self, is_call):
            return
        self.require_room(is_call=is_call)
        if self._requests is not None:
            self._requests.take(1, self._now())
        self.calls += is_call

    def require_room(self, *, is_call: bool) -> None:
        """Raise `TooMany` that names the exceeded limit if a call, or a request within a call, cannot start now."""
        limits, now = self.limits, self._now()
        if (
            is_call
            and limits.concurrency is not None
            and (calls := self.calls + self.elsewhere) >= limits.concurrency
        ):
            raise self._refusal("concurrent calls", limits.concurrency, calls, RETRY_AFTER_S)
        if self._requests is not None and (wait := self._requests.wait(1, now)):
            request_count = limits.requests_per_minute or 0
            raise self._refusal("requests per minute", request_count, request_count, wait)
        if self._tokens is not None and (wait := self._tokens.wait(1, now)):
            limit = limits.tokens_per_minute or 0
            raise self._refusal("tokens per minute", limit, math.ceil(limit - self._tokens.level(now)), wait)
        if limits.tokens_per_day is not None and self.spent >= limits.tokens_per_day:
            raise self._refusal("tokens per day", limits.tokens_per_day, self.spent, self._night)

    def adopt(self, reading: UsageReading, elsewhere: int) -> None:
        """Take over the usage by all daemons, and the number of calls in progress on other daemons."""
        now = self._now()
        used_tokens = reading.tokens + self.unreported_tokens
        for bucket, amount in ((self._requests, reading.requests), (self._tokens, used_tokens)):
            if bucket is not None:
                bucket.take(amount - (bucket.size - bucket.level(now)), now)
        self._count(reading.day_tokens + self.unreported_tokens)
        self.elsewhere = elsewhere

    def usage(self, *, without: int) -> UsageReading:
        """Return the known usage, except the unreported tokens and ``without`` tokens."""
        without += self.unreported_tokens
        requests, tokens = (
            0.0 if bucket is None else bucket.size - bucket.level(self._now())
            for bucket in (self._requests, self._tokens)
        )
        return UsageReading(requests, max(0.0, tokens - without), max(0, self.spent - without))

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wrap a model call within a run, and limit such calls to the key's number of concurrent calls."""
        if self.limits.concurrency is None:
            yield
            return
        turn = object()  # a separate object for each turn, because a task can have several
        await self._turns.acquire_on_behalf_of(turn)
        try:
            yield
        finally:
            self._turns.release_on_behalf_of(turn)

    def leave(self) -> None:
        """Count the end of an admitted call."""
        self.calls -= 1
        if self.limits.concurrency is not None:
            self._quotas.report_change(self)

    def spend(self, tokens: int) -> None:
        """Count the tokens of a call."""
        if self._tokens is not None:
            self._tokens.take(tokens, self._now())
        self._count(self.spent + tokens)
        if self._quotas.claim is not None and tokens and self._counts_tokens:
            self.unreported_tokens += tokens
            self._quotas.report_change(self)

    @property
    def _counts_tokens(self) -> bool:
        return self.limits.tokens_per_minute is not None or self.limits.tokens_per_day is not None

    def resume(self, *, requests: int, tokens: int, spent_tokens: int) -> None:
        """Restore the usage from before this daemon started: that of the last minute, and ``spent_tokens`` of today."""
        now = self._now()
        if self._requests is not None:
            self._requests.take(requests, now)
        if self._tokens is not None:
            self._tokens.take(tokens, now)
        self._count(spent_tokens)

    @property
    def spent(self) -> int:
        """Return the tokens of today."""
        return self._days.get(self._today() // DAY_S, 0)

    def _count(self, spent_tokens: int) -> None:
        self._days[self._today() // DAY_S] = spent_tokens
        while len(self._days) > MAX_DAYS:
            del self._days[next(iter(self._days))]

    @property
    def _night(self) -> float:
        """Return the seconds that remain until midnight UTC."""
        return DAY_S - self._today() % DAY_S

    def headers(self) -> Headers:
        """Return the remaining budget in OpenAI's headers. For tokens, this is the limit per minute if set, otherwise
        per day.

        Source: https://platform.openai.com/docs/guides/rate-limits
        """
        now = self._now()
        headers: Headers = []
        if self._requests is not None:
            headers += _limit_headers(
                b"requests", self._requests.size, self._requests.level(now), self._requests.full(now)
            )
        if self._tokens is not None:
            headers += _limit_headers(
                b"tokens", self._tokens.size, self._tokens.level(now), self._tokens.full(now)
            )
        elif self.limits.tokens_per_day is not None:
            limit = self.limits.tokens_per_day
            headers += _limit_headers(b"tokens", limit, limit - self.spent, self._night)
        return headers

    def _refusal(self, quantity: str, limit: int, used_count: int, wait: float) -> TooMany:
        return TooMany(
            f"Rate limit reached for {self._name} on {quantity}: limit {limit:,}, used {used_count:,}. Try again in "
            f"{span(wait)}, or ask the operator for a higher limit.",
            retry_after=wait,
        )


class Quotas:
    """The meters of the keys or apps that have limits. ``now`` is monotonic, ``today`` is in seconds since 1970.

    ``noun``: what messages call a metered object, such as ``key``.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        today: Callable[[], float] | None = None,
        *,
        noun: str = "key",
    ) -> None:
        self._noun = noun
        self._now = now
        self._today = today or (lambda: time.time())  # read at each call, because the clock can be set
        self._meters: dict[str, UsageMeter] = {}
        self.claim: Callable[[UsageMeter, bool], Awaitable[bool]] | None = None
        """Claims a call (true), or a request within a call, from the budget that daemons share; see `SharedUsage`.
        ``None`` for a single daemon.
        """
        self.note: Callable[[UsageMeter], None] = lambda _meter: None
        """Called when other daemons must learn the usage of a meter."""
        self.drop: Callable[[str], None] = lambda _key_id: None
        """Called when a key no longer has limits."""

    def report_change(self, meter: UsageMeter) -> None:
        """Report the usage of a meter to the other daemons, unless another meter has replaced it."""
        if self._meters.get(meter.id) is meter:
            self.note(meter)

    def busy_meters(self) -> Iterator[UsageMeter]:
        """Return the meters whose calls in progress count towards a limit."""
        return (meter for meter in self._meters.values() if meter.calls and meter.limits.concurrency)

    def count_alone(self) -> None:
        """Forget the calls in progress on other daemons, whose reports no longer arrive."""
        for meter in self._meters.values():
            meter.elsewhere = 0

    def of(self, key_id: str) -> UsageMeter | None:
        """Return the meter of a key, or ``None`` for a key without limits."""
        return self._meters.get(key_id)

    def limit(self, key_id: str, name: str, limits: UsageLimits) -> UsageMeter | None:
        """Apply limits to a key; ``name`` is the name of the key in messages."""
        if limits == UsageLimits():
            self.forget(key_id)
            return None
        meter = self._meters[key_id] = UsageMeter(
            key_id, f"the {self._noun} '{name}'", limits, self, self._now, self._today
        )
        return meter

    def change(self, key_id: str, name: str, limits: UsageLimits) -> bool:
        """Change the limits of a key, and keep its usage. Return whether the key's limits have changed."""
        usage_meter = self._meters.get(key_id)
        if usage_meter is None:
            return self.limit(key_id, name, limits) is not None
        usage_meter.change(limits)
        if limits == UsageLimits():
            self.forget(key_id)
        return False

    def forget(self, key_id: str) -> None:
        """Drop a key that was deleted or has no limits any more."""
        if self._meters.pop(key_id, None) is not None:
            self.drop(key_id)


class StorageQuota:
    """The storage limits of keys. ``limit_of`` returns the limit in bytes for a key's id; 0 means no limit.

    The rows of a key are summed periodically. Between sums, admitted sizes are added to the last sum, which is then
    too high if rows were deleted or admitted data was not written. If it would exceed the limit, it is therefore
    computed again, unless recent sums took too much time.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.limit_of: Callable[[str], int] = lambda _owner: 0
        self._now = now
        self._sums: dict[str, tuple[int, float]] = {}
        """For each key, the maximum bytes that it stores, and until when that number is valid."""
        self._budgets: dict[str, RateBucket] = {}
        """For each key, the time that its sums can still take, in seconds."""
        self._locks: dict[str, threading.Lock] = {}

    async def admit(self, database: Database, owner: str | None, size: int = 1) -> None:
        """Check like `require` before work that writes about ``size`` bytes. Data that turns out larger is not
        refused.

        Reads nothing if a recent sum exists.
        """
        if owner is None or not (limit := self.limit_of(owner)):
            return
        used_bytes, until = self._sums.get(owner, (0, -math.inf))
        if used_bytes + size > limit or self._now() > until or not self._add(owner, size):
            await database.read(self.require, owner, size)

    def count(self, owner: str, size: Callable[[], int]) -> None:
        """Add the size written by admitted work; ``size`` is called only for a key with a limit."""
        if owner in self._sums:
            self._add(owner, size())

    def _add(self, owner: str, size: int) -> bool:
        """Add ``size`` to a sum. If the sum is being computed, do nothing: the event loop must not wait. Return
        whether it was added.
        """
        lock = self._lock_of(owner)
        if not lock.acquire(blocking=False):
            return False
        with suppress(KeyError):
            used_bytes, until = self._sums[owner]
            self._sums[owner] = (used_bytes + size, until)
        lock.release()
        return True

    def look(self, connection: Any, owner: str | None, size: int) -> None:
        """Raise `TooLarge` if ``size`` more bytes exceed a key's limit. Call this method before the work that writes
        the bytes.
        """
        if owner is not None and (limit := self.limit_of(owner)):
            with self._lock_of(owner):
                self._used_bytes(connection, owner, size, limit)

    def require(self, connection: Any, owner: str | None, size: int) -> None:
        """Check like `look`, in the transaction that writes the bytes."""
        if owner is not None and (limit := self.limit_of(owner)):
            with self._lock_of(owner):
                used_bytes, until = self._used_bytes(connection, owner, size, limit)
                self._sums[owner] = (used_bytes + size, until)

    def _lock_of(self, owner: str) -> threading.Lock:
        return self._locks.setdefault(owner, threading.Lock())

    def _used_bytes(self, connection: Any, owner: str, size: int, limit: int) -> tuple[int, float]:
        """Return the maximum bytes that a key stores, and until when this number is valid. The caller holds the key's
        lock.
        """
        used_bytes, until = self._sums.get(owner, (0, -math.inf))
        began = self._now()
        budget = self._budgets.get(owner)
        if budget is None:
            budget = self._budgets[owner] = RateBucket(SUM_BUDGET_S, SUM_PAUSE_RATIO * SUM_BUDGET_S, began)
        if began > until or (used_bytes + size > limit and budget.level(began) > 0):
            used_bytes = files.stored_bytes(connection, owner)
            ended_at = self._now()
            until = ended_at + max(SUMMED_S, SUM_PAUSE_RATIO * (ended_at - began))
            budget.take(ended_at - began, ended_at)
        if used_bytes + size > limit:
            self._sums[owner] = (used_bytes, until)
            raise TooLarge(
                f"This API key uses {used_bytes / MB_BYTES:,.1f} MB of its storage limit of "
                f"{limit // MB_BYTES:,} MB, and this needs {size / MB_BYTES:,.1f} MB. Delete files, stores, "
                "artifacts, sessions, conversations, responses, prompts, apps or evaluations, or ask the "
                "operator for a higher limit (storage_mb of the key, or the setting storage_per_key_mb).",
                code="storage_limit_exceeded",
            )
        return used_bytes, until


def span(seconds: float) -> str:
    """Return a duration in the format of OpenAI's headers: ``12ms``, ``1.5s``, ``6m0s``, ``23h59m1s``."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    if seconds < MINUTE_S:
        return f"{math.ceil(seconds * 100) / 100:g}s"
    minutes, remainder_s = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{remainder_s}s" if hours else f"{minutes}m{remainder_s}s"


def _bucket(limit: int | None, now: float, before: RateBucket | None) -> RateBucket | None:
    """Return the budget for a limit, reduced by what was taken from the previous budget, as far as possible."""
    if limit is None or (before is not None and before.size == limit):
        return None if limit is None else before
    rate_bucket = RateBucket(limit, MINUTE_S, now)
    if before is not None:
        rate_bucket.take(min(before.size - before.level(now), limit), now)
    return rate_bucket


def _limit_headers(kind: bytes, limit: float, remaining_count: float, reset: float) -> Headers:
    values = (
        (b"limit", f"{limit:.0f}"),
        (b"remaining", f"{max(0, int(remaining_count))}"),
        (b"reset", span(reset)),
    )
    return [(b"x-ratelimit-%b-%b" % (word, kind), value.encode()) for word, value in values]
