"""Sends the events that wait: signed, to checked addresses, a few at a time, again until somebody has taken them.

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
from portico_server.core.principal import Principal
from portico_server.db import webhooks as rows
from portico_server.db.database import Database
from portico_server.db.webhooks import ClaimedDelivery, DeliveryBounds, DeliveryOutcome

logger = logging.getLogger(__name__)

RETRY_DELAYS_S: Final = (5, 60, 300, 1_800, 7_200, 18_000, 28_800, 28_800)
"""Seconds from each attempt that failed to the next: nine attempts in a little less than a day."""

MAX_JITTER_SHARE: Final = 0.1
"""By which share of it a delay may be longer, so that not all come back at once."""

MAX_RETRY_AFTER_S: Final = 3_600.0
"""Seconds for which a receiver can ask by ``Retry-After``, where the table asks for less."""

TIMEOUT_S: Final = 15.0
"""Seconds in which a receiver must have answered."""

MAX_ANSWER_BYTES: Final = 64 * 1024
"""Bytes of an answer that are read; nothing of them is kept."""

LEASE_S: Final = 60.0
"""Seconds after which another daemon may send what one that has gone silent had begun to."""

BOUNDS: Final = DeliveryBounds(here=32, per_webhook=2, per_owner=8)
"""Events that are sent at once."""

POLL_INTERVAL_S: Final = 5.0
"""Seconds between two looks for what a daemon has left that is gone."""

SETTLE_INTERVAL_S: Final = 30.0
"""Seconds between two looks for things whose runs have ended behind their backs."""

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  # what all have in common
"""What a secret begins with; base64 of its bytes follows."""

GONE_STATUS: Final = 410
"""With which a receiver says that it wants nothing more."""


class ReceiverAnswer(NamedTuple):
    """What a receiver said: a status of HTTP, and the seconds after which it may be asked again."""

    status: int
    retry_after: float | None = None


def sign(secret: str, event_id: str, timestamp: int, body: str) -> str:
    """The signature of one secret: HMAC-SHA256 over ``id.timestamp.body``, as ``v1,BASE64``."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    digest = hmac.new(key, f"{event_id}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


class WebhookSender:
    """Sends one event to one address."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    def check(self, url: str) -> None:
        """Raise `InvalidRequest` for an address to which nothing would be sent."""
        self._fetcher.check(url, secure=True)

    async def send(
        self,
        url: str,
        event_id: str,
        payload: str,
        secrets: Sequence[str],
        extra_headers: Mapping[str, str] | None = None,
    ) -> ReceiverAnswer:
        """Send it now, signed by each of ``secrets`` and with ``extra_headers`` headers. Redirects are not followed.

        Raises `PorticoError`.
        """
        self.check(url)  # the operator's setting may be another one than when it was added
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
    """The task. ``holder`` names this daemon in leases; ``settles`` end things whose runs were ended by others.

    ``principals`` is put in by the composition root, which knows the keys.
    """

    def __init__(
        self,
        database: Database,
        sender: WebhookSender,
        holder: str,
        settles: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self._database = database
        self._sender = sender
        self._holder = holder
        self._settles = settles
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._looks = self._ended_looks = 0
        self._looked = asyncio.Condition()
        self.principals: Callable[[str], Principal] | None = None

    async def run(self, *, is_alone: bool) -> None:
        """Send until cancelled. ``is_alone``: no other daemon shares the database, so every old lease is dead."""
        self._database.on_commit(rows.TOPIC, self._wake)
        is_released = not is_alone
        try:
            while True:
                self._wake.clear()
                self._looks += 1
                pause = POLL_INTERVAL_S
                try:
                    if not is_released:
                        await self._database.write(rows.release_all, self._holder)
                        is_released = True
                    coming = await self._database.read(rows.seconds_to_next)
                    if coming is not None and coming <= 0:
                        await self._take()
                    elif coming is not None:
                        pause = min(pause, coming)
                except PorticoError as error:
                    logger.error("the events for webhooks could not be read: %s", error.message)
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
                with suppress(PorticoError):  # the lease runs out
                    await self._database.write(rows.release, cut_off, self._holder)

    async def settled(self) -> None:
        """Wait until what became of all that is due now, and can be sent, stands in the database."""
        while True:
            number = self._looks  # the look that is under way, if one is, may have missed what is due
            self._wake.set()
            async with self._looked:
                await self._looked.wait_for(partial(self._has_looked, number))
            if not self._sending:
                return
            await asyncio.wait(self._sending.values())

    def _has_looked(self, number: int) -> bool:
        return self._ended_looks > number

    async def settle(self) -> None:
        """Let things end whose runs were ended by others, so that their events are written; until cancelled.

        Otherwise they end when somebody asks for them, which who waits for an event does not do.
        """
        while True:
            try:
                if await self._database.read(rows.any_used):
                    async with self._database.exclusive("webhooks", wait_s=0.0) as is_ours:
                        for settle in self._settles if is_ours else ():
                            await settle()
            except PorticoError as error:
                logger.warning("what has ended could not be looked at: %s", error.message)
            await asyncio.sleep(SETTLE_INTERVAL_S)

    async def _take(self) -> None:
        free = BOUNDS.here - len(self._sending)
        if free <= 0:
            return  # who is done wakes us
        for claimed_delivery in await self._database.write(rows.claim, self._holder, LEASE_S, free, BOUNDS):
            task = asyncio.create_task(
                self._deliver(claimed_delivery), name=f"webhook event {claimed_delivery.id}"
            )
            self._sending[claimed_delivery.id] = task
            task.add_done_callback(partial(self._done, claimed_delivery.id))

    def _done(self, event_id: str, task: asyncio.Task[None]) -> None:
        if self._sending.get(event_id) is task:
            del self._sending[event_id]
        self._wake.set()

    async def _deliver(self, claimed_delivery: ClaimedDelivery) -> None:
        work_slots.KEY.set(claimed_delivery.owner)
        try:
            if self.principals is not None:
                self.principals(claimed_delivery.owner)
        except PorticoError:
            reason = "The key that it belongs to was revoked."
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
        except Exception:  # a defect: the event is tried again, and the others are sent
            logger.exception("the event %s could not be sent", claimed_delivery.id)
            retry_s = _retry_s(claimed_delivery.attempt, None)
            outcome = DeliveryOutcome(delivered=False, error="The daemon could not send it.", retry_s=retry_s)
            await self._write(claimed_delivery, outcome)
        else:
            await self._heard(claimed_delivery, answer)

    async def _heard(self, claimed_delivery: ClaimedDelivery, receiver_answer: ReceiverAnswer) -> None:
        status = receiver_answer.status
        if 200 <= status < 300:
            await self._write(claimed_delivery, DeliveryOutcome(delivered=True, status=status))
            return
        if status == GONE_STATUS:
            reason = "The receiver answered HTTP 410: it wants nothing more."
            await self._write(
                claimed_delivery, DeliveryOutcome(delivered=False, status=status, error=reason), reason
            )
            return
        error = f"The receiver answered HTTP {status}, where a status of 200 to 299 was expected."
        if 300 <= status < 400:
            error += " Redirects are not followed: give the webhook the address itself."
        retry_s = _retry_s(claimed_delivery.attempt, receiver_answer.retry_after)
        await self._write(
            claimed_delivery, DeliveryOutcome(delivered=False, status=status, error=error, retry_s=retry_s)
        )

    async def _write(
        self, claimed_delivery: ClaimedDelivery, outcome: DeliveryOutcome, disable_reason: str = ""
    ) -> None:
        """Write down what came of an attempt; ``disable_reason``: why nothing more is sent to the webhook."""
        if not outcome.delivered:
            # Without the error, in which the address may stand: that is a secret with some receivers.
            answer_text = "nothing" if outcome.status is None else f"HTTP {outcome.status}"
            words = "webhook %s did not take event %s in attempt %d: it answered %s"
            logger.info(
                words, claimed_delivery.webhook_id, claimed_delivery.id, claimed_delivery.attempt, answer_text
            )
        try:
            await self._database.write_soon(rows.settle, claimed_delivery.id, self._holder, outcome)
            if disable_reason:
                await self._database.write(rows.disable, claimed_delivery.webhook_id, disable_reason)
        except PorticoError as error:
            # Its lease runs out, and it is sent again: a receiver knows it by its id.
            logger.error(
                "what became of event %s could not be written: %s", claimed_delivery.id, error.message
            )


def _retry_s(attempt: int, retry_after: float | None) -> float | None:
    """Seconds from an attempt to the next; ``None`` after the last."""
    if attempt > len(RETRY_DELAYS_S):
        return None
    delay = RETRY_DELAYS_S[attempt - 1] * random.uniform(1.0, 1.0 + MAX_JITTER_SHARE)  # noqa: S311
    return max(delay, min(retry_after or 0.0, MAX_RETRY_AFTER_S))
