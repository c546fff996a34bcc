"""Counts the usage of limits in the database, so that limits hold across several daemons on one PostgreSQL."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from portico_server.db import usage_meters
from portico_server.db.failures import RETRY_S
from portico_server.db.usage_meters import Grant, UsageClaim
from portico_server.runs.quotas import Quotas, UsageMeter

if TYPE_CHECKING:
    import asyncpg

    from portico_server.db.postgres import PostgresThread

logger = logging.getLogger(__name__)

REPORT_INTERVAL_S: Final = 1.0
"""Seconds between two reports of calls in progress."""

PendingClaim: TypeAlias = tuple[bool, asyncio.Future[bool | None]]
"""Whether it claims a call, and whether it is granted; ``None``: the database is not available."""


class SharedUsage:
    """Claims calls for the meters of ``quotas``.

    One statement is in flight at a time. Claims and reports that arrive meanwhile share the next statement. Without a
    connection, each daemon counts on its own.
    """

    def __init__(self, postgres: PostgresThread, quotas: Sequence[Quotas]) -> None:
        self._postgres = postgres
        self._quotas = quotas
        self._is_available = False
        self._wake = asyncio.Event()
        self._claims: dict[UsageMeter, list[PendingClaim]] = {}
        """The waiting claims by meter, oldest first."""
        self._changed_meters: set[UsageMeter] = set()
        self._dropped_ids: set[str] = set()
        for table in quotas:
            table.claim, table.note, table.drop = self.claim, self._note, self._drop

    async def claim(self, meter: UsageMeter, is_call: bool) -> bool:
        """Claim a call, or a request within a call. Return false if the database is not available. Raise `TooMany`
        that names the exceeded limit.
        """
        while self._is_available:
            future: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
            self._claims.setdefault(meter, []).append((is_call, future))
            self._wake.set()
            try:
                is_granted = await future
            except asyncio.CancelledError:
                if is_call and future.done() and not future.cancelled() and future.result():
                    meter.leave()
                raise
            if is_granted is None:
                break
            if is_granted:
                return True
            meter.require_room(is_call=is_call)  # a limit may have recovered since
        return False

    def _note(self, meter: UsageMeter) -> None:
        self._changed_meters.add(meter)
        self._wake.set()

    def _drop(self, key_id: str) -> None:
        self._dropped_ids.add(key_id)
        self._wake.set()

    async def run(self) -> None:
        """Claim and report until cancelled; reconnect if the connection is lost."""
        self._is_available = True  # the first claims wait for the connection
        while True:
            try:
                connection = await self._postgres.connect()
                try:
                    await usage_meters.prepare(connection)
                    await self._serve(connection)
                finally:
                    connection.terminate()
            except self._postgres.errors as error:  # including `TimeoutError`, which is an `OSError`
                logger.warning("each daemon counts limits on its own at the moment: %s", error)
            finally:
                self._is_available = False
                self._release(self._claims)
                for quotas in self._quotas:
                    quotas.count_alone()
            await asyncio.sleep(RETRY_S)

    async def _serve(self, connection: asyncpg.Connection[Any]) -> None:
        self._is_available = True
        while True:
            try:
                async with asyncio.timeout(REPORT_INTERVAL_S):
                    await self._wake.wait()
            except TimeoutError:
                for quotas in self._quotas:
                    self._changed_meters.update(quotas.busy_meters())
            self._wake.clear()
            await self._exchange(connection)

    async def _exchange(self, connection: asyncpg.Connection[Any]) -> None:
        """Claim and report what has accumulated."""
        claims, self._claims = self._claims, {}
        meters = {meter.id: meter for meter in (*claims, *self._changed_meters)}
        batch = [_claim_of(meter, claims.get(meter, ())) for meter in meters.values()]
        dropped_ids = self._dropped_ids - meters.keys()
        self._changed_meters.clear()
        try:
            if dropped_ids:
                await usage_meters.remove(connection, list(dropped_ids))
                self._dropped_ids.clear()
            while batch:
                grants = await usage_meters.claim(connection, self._postgres.origin, batch)
                for key_id, grant in grants.items():
                    self._deliver(grant, meters[key_id], claims.get(meters[key_id], ()))
                batch = [row for row in batch if row.id not in grants]
                if batch:
                    await usage_meters.add(
                        connection, {row.id: meters[row.id].usage(without=row.tokens) for row in batch}
                    )
        finally:
            self._release(claims)
            for row in batch:
                meters[row.id].unreported_tokens += row.tokens
                self._changed_meters.add(meters[row.id])

    def _deliver(self, grant: Grant, meter: UsageMeter, pending: Sequence[PendingClaim]) -> None:
        """Update a meter, and answer its claims, oldest first."""
        meter.adopt(grant.usage, grant.elsewhere)
        counts = {True: grant.calls, False: grant.requests}
        for is_call, future in pending:
            if future.done():  # its caller has left
                continue
            is_granted = counts[is_call] > 0
            counts[is_call] -= is_granted
            meter.calls += is_granted and is_call
            future.set_result(is_granted)
        if counts[True]:
            self._note(meter)  # reports fewer calls than it was granted

    def _release(self, claims: dict[UsageMeter, list[PendingClaim]]) -> None:
        """End the claims that are still waiting: the database is not available."""
        for pending in claims.values():
            for _is_call, future in pending:
                if not future.done():
                    future.set_result(None)
        claims.clear()


def _claim_of(meter: UsageMeter, pending: Sequence[PendingClaim]) -> UsageClaim:
    calls = sum(is_call for is_call, _future in pending)
    tokens, meter.unreported_tokens = meter.unreported_tokens, 0
    return UsageClaim(meter.id, meter.limits, meter.calls, calls, len(pending) - calls, tokens)
