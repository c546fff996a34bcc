"""Delivers pending events: signed, to checked addresses, a few at a time, retried until the receiver accepts them.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from portico_server import __version__
from portico_server.core import work_slots
from portico_server.core.errors import PorticoError, retry_after_s
from portico_server.core.fetching import Fetcher
from portico_server.db import webhooks as rows
from portico_server.db.database import Database
from portico_server.db.webhooks import ClaimedDelivery, DeliveryBounds, DeliveryOutcome
from portico_server.runs.scheduler import Scheduler

logger = logging.getLogger(__name__)

RETRY_DELAYS_S: Final = (5, 60, 300, 1_800, 7_200, 18_000, 28_800, 28_800)
"""Seconds between an attempt that failed and the next attempt: nine attempts in slightly less than a day."""

MAX_JITTER_SHARE: Final = 0.1
"""Maximum share by which a delay is extended, so that retries are spread over time."""

MAX_RETRY_AFTER_S: Final = 3_600.0
"""Maximum delay that a receiver can request with ``Retry-After``, in seconds, if the delay in `RETRY_DELAYS_S` is
shorter.
"""

TIMEOUT_S: Final = 15.0
"""Time within which a receiver must respond, in seconds."""

MAX_ANSWER_BYTES: Final = 64 * 1024
"""Maximum number of bytes read from a response. The bytes are discarded."""

LEASE_S: Final = 60.0
"""Seconds after which another daemon can send an event whose daemon no longer responds."""

BOUNDS: Final = DeliveryBounds(here=32, per_webhook=2, per_owner=8)
"""Limits on the number of events that are sent concurrently."""

POLL_INTERVAL_S: Final = 5.0
"""Seconds between checks for events that another daemon has left behind."""

SETTLE_INTERVAL_S: Final = 30.0
"""Seconds between checks for work whose runs were ended elsewhere."""

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  # what all have in common
"""Prefix of a secret, followed by the base64 of its bytes."""

GONE_STATUS: Final = 410
"""Status with which a receiver refuses all further events."""


class ReceiverAnswer(NamedTuple):
    """A receiver's response: the HTTP status, and the seconds to wait before the next attempt."""

    status: int
    retry_after: float | None = None


def sign(secret: str, event_id: str, timestamp: int, body: str) -> str:
    """Return the signature with one secret: HMAC-SHA256 over ``id.timestamp.body``, as ``v1,BASE64``."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    digest = hmac.new(key, f"{event_id}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


class WebhookSender:
    """Sends one event to one address."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    def check(self, url: str) -> None:
        """Raise `InvalidRequest` for an address to which Portico must not send events."""
        self._fetcher.check(url, secure=True)

    async def send(
        self,
        url: str,
        event_id: str,
        payload: str,
        secrets: Sequence[str],
        extra_headers: Mapping[str, str] | None = None,
    ) -> ReceiverAnswer:
        """Send an event now, signed with each of ``secrets`` and with ``extra_headers``. Redirects are not followed.

        Raises `PorticoError`.
        """
        self.check(url)  # the operator's settings may have changed since the webhook was added
        moment = int(time.time())
        headers = {
            "content-type": "application/json",
            "user-agent": f"Portico/{__version__} (+webhook)",
            "webhook-id": event_id,
            "webhook-timestamp": str(moment),
            "webhook-signature": " ".join(sign(secret, event_id, moment, payload) for secret in secrets),
            **(extra_headers or {}),
        }
        async with (
            self._fetcher.session() as session,
            session.open(
                url, headers, seconds=TIMEOUT_S, method="POST", is_signed=True, body=payload.encode()
            ) as answer,
        ):
            size = 0
            async for block in answer.body:
                size += len(block)
                if size > MAX_ANSWER_BYTES:
                    break
            return ReceiverAnswer(answer.status, retry_after_s(answer.headers.get("retry-after")))


class WebhookDeliveries:
    """The task that delivers events.

    The scheduler's ``holder`` is this daemon's name in leases. ``settle`` finishes work whose runs were ended
    elsewhere. ``is_alone``: no other daemon shares the database, so leases from before the start are void.
    """

    def __init__(
        self,
        database: Database,
        sender: WebhookSender,
        scheduler: Scheduler,
        settle: Callable[[], Awaitable[None]],
        *,
        is_alone: bool,
    ) -> None:
        self._database = database
        self._sender = sender
        self._scheduler = scheduler
        self._settle_runs = settle
        self._is_alone = is_alone
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._looks = self._ended_looks = 0
        self._looked = asyncio.Condition()

    async def run(self) -> None:
        """Send events until cancelled."""
        self._database.on_commit(rows.TOPIC, self._wake)
        is_released = not self._is_alone
        try:
            while True:
                self._wake.clear()
                self._looks += 1
                pause = POLL_INTERVAL_S
                try:
                    if not is_released:
                        await self._database.write(rows.release_all, self._scheduler.holder)
                        is_released = True
                    coming = await self._database.read(rows.seconds_to_next)
                    if coming is not None and coming <= 0:
                        await self._take()
                    elif coming is not None:
                        pause = min(pause, coming)
                except PorticoError as error:
                    logger.error("cannot read webhook events: %s", error.message)
                async with self._looked:
                    self._ended_looks = self._looks
                    self._looked.notify_all()
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
        finally:
            cut_off = list(self._sending)
            for task in self._sending.values():
                task.cancel()
            if self._sending:
                await asyncio.wait(self._sending.values())
                with suppress(PorticoError):  # the lease expires
                    await self._database.write(rows.release, cut_off, self._scheduler.holder)

    async def wait_for_outcomes(self) -> None:
        """Wait until the database contains the outcome of every event that is due now and can be sent."""
        while True:
            number = self._looks  # wait for a later check, because a check in progress may have missed events
            self._wake.set()
            async with self._looked:
                await self._looked.wait_for(partial(self._has_looked, number))
            if not self._sending:
                return
            await asyncio.wait(self._sending.values())

    def _has_looked(self, number: int) -> bool:
        return self._ended_looks > number

    async def settle(self) -> None:
        """Finish work whose runs were ended elsewhere, so that its events are written. Repeat until cancelled.

        Otherwise, such work is finished only when a client requests it, and a client that waits for an event makes no
        request.
        """
        while True:
            try:
                if await self._database.read(rows.any_used):
                    async with self._database.exclusive("webhooks", wait_s=0.0) as is_ours:
                        if is_ours:
                            await self._settle_runs()
            except PorticoError as error:
                logger.warning("cannot check for finished work: %s", error.message)
            await asyncio.sleep(SETTLE_INTERVAL_S)

    async def _take(self) -> None:
        free = BOUNDS.here - len(self._sending)
        if free <= 0:
            return  # a finished delivery triggers the next check
        for claimed_delivery in await self._database.write(
            rows.claim, self._scheduler.holder, LEASE_S, free, BOUNDS
        ):
            task = asyncio.create_task(
                self._deliver(claimed_delivery), name=f"webhook event {claimed_delivery.id}"
            )
            self._sending[claimed_delivery.id] = task
            task.add_done_callback(partial(self._on_done, claimed_delivery.id))

    def _on_done(self, event_id: str, task: asyncio.Task[None]) -> None:
        if self._sending.get(event_id) is task:
            del self._sending[event_id]
        self._wake.set()

    async def _deliver(self, claimed_delivery: ClaimedDelivery) -> None:
        work_slots.KEY.set(claimed_delivery.owner)
        try:
            self._scheduler.principals(claimed_delivery.owner)
        except PorticoError:
            reason = "The webhook's key was revoked."
            await self._write(claimed_delivery, DeliveryOutcome(delivered=False, error=reason), reason)
            return
        try:
            answer = await self._sender.send(
                claimed_delivery.url,
                claimed_delivery.id,
                claimed_delivery.payload,
                claimed_delivery.secrets,
                claimed_delivery.headers,
            )
        except PorticoError as error:
            retry_s = _retry_s(claimed_delivery.attempt, None)
            await self._write(
                claimed_delivery, DeliveryOutcome(delivered=False, error=error.message, retry_s=retry_s)
            )
        except Exception:  # an internal error: the event is retried, and the other events are sent
            logger.exception("cannot send event %s", claimed_delivery.id)
            retry_s = _retry_s(claimed_delivery.attempt, None)
            outcome = DeliveryOutcome(
                delivered=False, error="The daemon could not send the event.", retry_s=retry_s
            )
            await self._write(claimed_delivery, outcome)
        else:
            await self._record_answer(claimed_delivery, answer)

    async def _record_answer(
        self, claimed_delivery: ClaimedDelivery, receiver_answer: ReceiverAnswer
    ) -> None:
        status = receiver_answer.status
        if 200 <= status < 300:
            await self._write(claimed_delivery, DeliveryOutcome(delivered=True, status=status))
            return
        if status == GONE_STATUS:
            reason = "The receiver responded with HTTP 410, which declines all further events."
            await self._write(
                claimed_delivery, DeliveryOutcome(delivered=False, status=status, error=reason), reason
            )
            return
        error = f"The receiver responded with HTTP {status}, but a status from 200 to 299 was expected."
        if 300 <= status < 400:
            error += " Redirects are not followed: set the webhook's URL to the final address."
        retry_s = _retry_s(claimed_delivery.attempt, receiver_answer.retry_after)
        await self._write(
            claimed_delivery, DeliveryOutcome(delivered=False, status=status, error=error, retry_s=retry_s)
        )

    async def _write(
        self, claimed_delivery: ClaimedDelivery, outcome: DeliveryOutcome, disable_reason: str = ""
    ) -> None:
        """Store the outcome of an attempt. ``disable_reason``: why the webhook receives no further events."""
        if not outcome.delivered:
            # The error is not logged because it may contain the address, which is a secret for some
            # receivers.
            answer_text = "nothing" if outcome.status is None else f"HTTP {outcome.status}"
            words = "webhook %s did not accept event %s in attempt %d: it responded with %s"
            logger.info(
                words, claimed_delivery.webhook_id, claimed_delivery.id, claimed_delivery.attempt, answer_text
            )
        try:
            await self._database.write_soon(rows.settle, claimed_delivery.id, self._scheduler.holder, outcome)
            if disable_reason:
                await self._database.write(
                    rows.disable, claimed_delivery.webhook_id, disable_reason, claimed_delivery.url
                )
        except PorticoError as error:
            # The lease expires, and then the event is sent again. The receiver recognizes the event by its
            # id.
            logger.error("cannot store the outcome of event %s: %s", claimed_delivery.id, error.message)


def _retry_s(attempt: int, retry_after: float | None) -> float | None:
    """Return the seconds from an attempt to the next attempt; ``None`` after the last attempt."""
    if attempt > len(RETRY_DELAYS_S):
        return None
    delay = RETRY_DELAYS_S[attempt - 1] * random.uniform(1.0, 1.0 + MAX_JITTER_SHARE)  # noqa: S311
    return max(delay, min(retry_after or 0.0, MAX_RETRY_AFTER_S))
