"""The use of each key's and app's limits, kept in memory. After a restart, it is restored from the usage rows."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from anyio import CapacityLimiter

from portico_server.core.errors import TooLarge, TooMany
from portico_server.core.limits import UsageLimits
from portico_server.core.rate_bucket import RateBucket
from portico_server.db import files
from portico_server.db.database import Database
from portico_server.db.usage import DAY_S
from portico_server.settings import MB_BYTES

MINUTE_S = 60.0
MAX_DAYS = 8

SILENT_S = 5.0
"""Seconds without a report after which another daemon's calls in progress no longer count."""

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
        "_calls",
        "_days",
        "_elsewhere",
        "_limits",
        "_name",
        "_now",
        "_on_change",
        "_requests",
        "_today",
        "_tokens",
        "_turns",
        "_unsaid",
    )

    def __init__(
        self,
        name: str,
        limits: UsageLimits,
        now: Callable[[], float],
        today: Callable[[], float],
        noun: str = "key",
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._name = f"the {noun} '{name}'"
        self._on_change = on_change
        self._unsaid = [0, 0]
        """Requests and tokens that have not been reported to the other daemons yet."""
        self._elsewhere: dict[str, tuple[int, float]] = {}
        """For each other daemon, its calls in progress, and when it reported them."""
        self._now = now
        self._today = today
        self._calls = 0
        self._days: dict[float, int] = {}
        """Tokens by day, for the last few days. If the clock is set back, the counts of the earlier day still exist."""
        self._turns = CapacityLimiter(math.inf)
        self._requests: RateBucket | None = None
        self._tokens: RateBucket | None = None
        self.change(limits)

    def change(self, limits: UsageLimits) -> None:
        """Change the limits. Usage and calls in progress stay counted; a new limit per minute starts without usage."""
        now = self._now()
        self._limits = limits
        self._turns.total_tokens = limits.concurrency or math.inf
        self._requests = _bucket(limits.requests_per_minute, now, self._requests)
        self._tokens = _bucket(limits.tokens_per_minute, now, self._tokens)

    def enter(self) -> None:
        """Count a call that starts. Raise `TooMany` that names the exceeded limit."""
        limits = self._limits
        if (
            limits.concurrency is not None
            and (calls := self._calls + self._other_calls) >= limits.concurrency
        ):
            raise self._refusal("concurrent calls", limits.concurrency, calls, RETRY_AFTER_S)
        self.add_request()
        self._calls += 1

    def add_request(self) -> None:
        """Count a request that is part of an admitted call. Raise `TooMany` that names the exceeded limit."""
        limits, now = self._limits, self._now()
        if self._requests is not None and (wait := self._requests.wait(1, now)):
            request_count = limits.requests_per_minute or 0
            raise self._refusal("requests per minute", request_count, request_count, wait)
        if self._tokens is not None and (wait := self._tokens.wait(1, now)):
            limit = limits.tokens_per_minute or 0
            raise self._refusal("tokens per minute", limit, math.ceil(limit - self._tokens.level(now)), wait)
        if limits.tokens_per_day is not None and self.spent >= limits.tokens_per_day:
            raise self._refusal("tokens per day", limits.tokens_per_day, self.spent, self._night)
        if self._requests is not None:
            self._requests.take(1, now)
        self._unsaid[0] += 1
        self._on_change()

    @property
    def _other_calls(self) -> int:
        """Return the number of calls in progress on other daemons, according to recent reports."""
        since = self._now() - SILENT_S
        return sum(calls for calls, at in self._elsewhere.values() if at >= since)

    def report(self) -> tuple[int, int, int]:
        """Return the requests and tokens since the last report, and the number of calls in progress."""
        requests, tokens = self._unsaid
        self._unsaid = [0, 0]
        return requests, tokens, self._calls

    def hear(self, origin: str, requests: int, tokens: int, calls: int) -> None:
        """Count the report of another daemon."""
        now = self._now()
        if self._requests is not None:
            self._requests.take(requests, now)
        if self._tokens is not None:
            self._tokens.take(tokens, now)
        self._count(self.spent + tokens)
        self._elsewhere[origin] = (calls, now)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wrap a model call within a run, and limit such calls to the key's number of concurrent calls."""
        if self._limits.concurrency is None:
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
        self._calls -= 1
        self._on_change()

    def spend(self, tokens: int) -> None:
        """Count the tokens of a call."""
        if self._tokens is not None:
            self._tokens.take(tokens, self._now())
        self._count(self.spent + tokens)
        self._unsaid[1] += tokens
        self._on_change()

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
        elif self._limits.tokens_per_day is not None:
            limit = self._limits.tokens_per_day
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
        self._unreported: set[str] = set()
        self.wake: Callable[[], None] = lambda: None
        """Called when there is usage to report."""

    def report(self, busy: bool) -> dict[str, tuple[int, int, int]]:
        """Return the usage that other daemons do not know yet, by key. ``busy``: include keys with calls in
        progress.
        """
        unreported_keys, self._unreported = self._unreported, set()
        key_ids = [key for key in self._meters if busy or key in unreported_keys]
        reports = {key: self._meters[key].report() for key in key_ids}
        return {key: report for key, report in reports.items() if key in unreported_keys or report[2]}

    def hear(self, origin: str, reports: Mapping[str, Sequence[int]]) -> None:
        """Count the report of another daemon."""
        for key, (requests, tokens, calls) in reports.items():
            meter = self._meters.get(key)
            if meter is not None:
                meter.hear(origin, requests, tokens, calls)

    def _note(self, key_id: str) -> None:
        self._unreported.add(key_id)
        self.wake()

    def of(self, key_id: str) -> UsageMeter | None:
        """Return the meter of a key, or ``None`` for a key without limits."""
        return self._meters.get(key_id)

    def limit(self, key_id: str, name: str, limits: UsageLimits) -> UsageMeter | None:
        """Apply limits to a key; ``name`` is the name of the key in messages."""
        self._meters.pop(key_id, None)
        if limits == UsageLimits():
            return None
        meter = self._meters[key_id] = UsageMeter(
            name, limits, self._now, self._today, self._noun, partial(self._note, key_id)
        )
        return meter

    def change(self, key_id: str, name: str, limits: UsageLimits) -> bool:
        """Change the limits of a key, and keep its usage. Return whether the key's limits have changed."""
        usage_meter = self._meters.get(key_id)
        if usage_meter is None:
            return self.limit(key_id, name, limits) is not None
        usage_meter.change(limits)
        if limits == UsageLimits():
            del self._meters[key_id]
        return False

    def forget(self, key_id: str) -> None:
        """Drop a deleted key."""
        self._meters.pop(key_id, None)


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
