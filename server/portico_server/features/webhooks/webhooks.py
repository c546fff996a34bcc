"""Webhooks for their owners: create, change, rotate and test webhooks, and list their deliveries."""

from __future__ import annotations

import base64
import re
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from portico_server.core.errors import Conflict, InvalidRequest, NotFound, PorticoError, TooMany, nearest
from portico_server.core.fetching import Fetcher
from portico_server.core.ids import new_id
from portico_server.core.invalid import wrong
from portico_server.core.principal import Principal
from portico_server.db import webhooks as rows
from portico_server.db.database import Database
from portico_server.db.rows import RowPage
from portico_server.db.webhooks import EVENT_TYPES, DeliveryRow, WebhookRow
from portico_server.feature_table import Features
from portico_server.features.webhooks.delivery import SECRET_PREFIX, WebhookDeliveries, WebhookSender
from portico_server.runs.scheduler import Scheduler

MAX_WEBHOOKS: Final = 20
"""Maximum number of webhooks per key."""

MAX_TASK_WEBHOOKS: Final = 10
"""Maximum number of addresses that are notified of one agent task."""

MAX_URL_LENGTH: Final = 2_048
"""Maximum length of an address, in characters."""

MAX_NAME_LENGTH: Final = 200
"""Maximum length of a name, in characters."""

KEEP_SECRET_S: Final = 86_400.0
"""Seconds for which the previous secret is also used for signatures after a rotation, if requested."""

DISABLED_BY_OWNER: Final = "The owner disabled it."
"""The owner disabled this webhook."""

MAX_RUNNING_TESTS: Final = 2
"""Maximum number of concurrent tests per key."""

_SECRET_BYTES: Final = 24
_HINT_CHARS: Final = 4
_URL: Final = re.compile(r"[!-~]+")


class WebhookService:
    """The webhooks of all callers. A caller sees its own webhooks; an admin sees all."""

    def __init__(self, database: Database, sender: WebhookSender, sending: WebhookDeliveries) -> None:
        self._database = database
        self._sender = sender
        self.sending = sending
        """The task that delivers the events."""
        self._testing: Counter[str] = Counter()

    async def create(self, name: str, url: str, event_types: Sequence[str], caller: Principal) -> WebhookRow:
        """Create a webhook with a new secret. Raises `InvalidRequest`, and `Conflict` if the key has reached its
        limit.
        """
        self._check_url(url)
        now = time.time()
        row = WebhookRow(
            new_id("wh_"), caller.id, name, url, _checked_types(event_types), _new_secret(), now, now
        )
        if not await self._database.write(rows.add, row, MAX_WEBHOOKS):
            raise Conflict(
                f"This key has {MAX_WEBHOOKS} webhooks, which is the maximum. Delete a webhook, or add the "
                "event types to an existing webhook.",
                code="too_many_webhooks",
            )
        return row

    async def get(self, webhook_id: str, caller: Principal) -> WebhookRow:
        """Return a webhook. Raises `NotFound`."""
        row = await self._database.read(rows.get, webhook_id)
        if row is None or row.task_id is not None or not caller.sees(row.owner):
            raise NotFound(
                f"The webhook '{webhook_id[:80]}' does not exist.",
                code="webhook_not_found",
                param="webhook_endpoint_id",
            )
        return row

    async def list(
        self, caller: Principal, *, after: str | None = None, limit: int = 20
    ) -> RowPage[WebhookRow]:
        """Return the caller's webhooks, newest first. Raises `NotFound` if ``after`` is not a webhook."""
        if after is not None:
            await self.get(after, caller)
        owner = None if caller.admin else caller.id
        return await self._database.read(rows.page, owner, after=after, limit=limit)

    async def change(
        self,
        webhook_id: str,
        caller: Principal,
        *,
        name: str | None = None,
        url: str | None = None,
        event_types: Sequence[str] | None = None,
        disabled: bool | None = None,
    ) -> WebhookRow:
        """Change the given fields. Unless ``disabled`` is given, a disabled webhook becomes active again.

        Raises `NotFound`, `InvalidRequest`.
        """
        row = await self.get(webhook_id, caller)
        changes: dict[str, Any] = {}
        if name is not None:
            changes["name"] = name
        if url is not None:
            self._check_url(url)
            changes["url"] = url
        if event_types is not None:
            changes["event_types"] = _checked_types(event_types)
        changed_fields = {field: value for field, value in changes.items() if getattr(row, field) != value}
        if changed_fields or (row.disabled is not None and (changes or disabled is False)):
            await self._database.write(rows.change, row.id, changed_fields)
        if disabled:
            await self._database.write(rows.disable, row.id, DISABLED_BY_OWNER)
        return await self.get(webhook_id, caller)

    async def rotate(self, webhook_id: str, caller: Principal, *, keep_old: bool = False) -> WebhookRow:
        """Replace the secret. With ``keep_old``, the previous secret is also used for signatures for a day. Raises
        `NotFound`.
        """
        row = await self.get(webhook_id, caller)
        await self._database.write(rows.rotate, row.id, _new_secret(), KEEP_SECRET_S if keep_old else 0.0)
        return await self.get(webhook_id, caller)

    async def delete(self, webhook_id: str, caller: Principal) -> None:
        """Delete a webhook and its deliveries. Raises `NotFound`."""
        row = await self.get(webhook_id, caller)
        await self._database.write(rows.remove, row.id)

    async def test(self, webhook_id: str, event_type: str, caller: Principal) -> int:
        """Immediately send a sample event once, and return the status of the response. Nothing is stored.

        Raises `NotFound`, `TooMany`, and `InvalidRequest` if the receiver does not respond.
        """
        row = await self.get(webhook_id, caller)
        [event_type] = _checked_types([event_type], "event_type")
        if self._testing[caller.id] >= MAX_RUNNING_TESTS:
            raise TooMany(
                f"{MAX_RUNNING_TESTS} tests of this key are already running. Try again when one of them has "
                "finished.",
                code="too_many_tests",
                retry_after=5.0,
            )
        event_id, now = new_id("evt_"), time.time()
        other_secrets = (
            [row.previous_secret] if row.previous_secret and (row.previous_until or 0.0) > now else []
        )
        payload = rows.payload(event_id, event_type, f"{event_type.replace('.', '_')}_test", now)
        self._testing[caller.id] += 1
        try:
            answer = await self._sender.send(row.url, event_id, payload, [row.secret, *other_secrets])
        except PorticoError as error:
            # An InvalidRequest, because the address must be changed: a client that repeats the request would
            # only wait again.
            raise InvalidRequest(
                f"The receiver did not accept the test: {error.message}",
                code="webhook_unreachable",
                param="url",
            ) from error
        finally:
            self._testing[caller.id] -= 1
            self._testing += Counter()  # drops keys without running tests
        return answer.status

    async def watch_task(
        self, task_id: str, name: str, url: str, headers: Mapping[str, str], caller: Principal
    ) -> WebhookRow:
        """Notify ``url`` of the progress of a task, replacing the task's address with the same ``name``.

        Raises `InvalidRequest`, and `Conflict` if the task has reached its limit.
        """
        self._check_url(url)
        now, webhook_id = time.time(), new_id("wh_")
        row = WebhookRow(
            webhook_id,
            owner=caller.id,
            name=name or webhook_id,
            url=url,
            event_types=(),
            secret=_new_secret(),
            created_at=now,
            updated_at=now,
            task_id=task_id,
            headers=headers,
        )
        if not await self._database.write(rows.add_to_task, row, MAX_TASK_WEBHOOKS):
            raise Conflict(
                f"{MAX_TASK_WEBHOOKS} addresses are notified of this task, which is the maximum. Delete one "
                "of them.",
                code="too_many_webhooks",
            )
        return row

    async def watchers(self, task_id: str) -> Sequence[WebhookRow]:
        """Return the webhooks that are notified of a task, oldest first."""
        return await self._database.read(rows.of_task, task_id)

    async def unwatch(self, row: WebhookRow) -> None:
        """Stop notifying a webhook."""
        await self._database.write(rows.remove, row.id)

    async def deliveries(
        self, webhook_id: str, caller: Principal, *, after: str | None = None, limit: int = 20
    ) -> RowPage[DeliveryRow]:
        """Return the sent and pending deliveries of a webhook, newest first. Raises `NotFound`."""
        row = await self.get(webhook_id, caller)
        if after is not None:
            await self._delivery(row, after)
        return await self._database.read(rows.deliveries_of, row.id, after=after, limit=limit)

    async def redeliver(self, webhook_id: str, delivery_id: str, caller: Principal) -> DeliveryRow:
        """Send an event again, even if it was delivered. Raises `NotFound`, `Conflict`, `TooMany`."""
        row = await self.get(webhook_id, caller)
        delivery_row = await self._delivery(row, delivery_id)
        if row.disabled is not None:
            raise Conflict(
                f"The webhook '{row.id}' is disabled: {row.disabled} First update the webhook, for example "
                "its URL.",
                code="webhook_disabled",
                param="webhook_endpoint_id",
            )
        if not await self._database.write(rows.send_again, delivery_row.id):
            raise TooMany(
                f"This key already has {rows.MAX_PENDING_EVENTS:,} events waiting for delivery.",
                code="too_many_events",
                retry_after=60.0,
            )
        return await self._delivery(row, delivery_id)

    async def _delivery(self, row: WebhookRow, delivery_id: str) -> DeliveryRow:
        delivery_row = await self._database.read(rows.delivery, delivery_id)
        if delivery_row is None or delivery_row.webhook_id != row.id:
            raise NotFound(
                f"This webhook has no delivery '{delivery_id[:80]}'.",
                code="delivery_not_found",
                param="delivery_id",
            )
        return delivery_row

    def _check_url(self, url: str) -> None:
        if not _URL.fullmatch(url):
            wrong("url", "must be a URL in printable ASCII characters, without spaces")
        self._sender.check(url)


def hint(secret: str) -> str:
    """Return the part of a secret that can be shown after the webhook's creation."""
    return f"{SECRET_PREFIX}…{secret[-_HINT_CHARS:]}"


def _new_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def _checked_types(event_types: Sequence[str], path: str = "event_types") -> list[str]:
    """Return the event types in the order of `EVENT_TYPES`. Raises `InvalidRequest` for an unknown event type."""
    for number, event_type in enumerate(event_types):
        if event_type not in EVENT_TYPES:
            raise InvalidRequest(
                f"Unknown event type '{event_type[:80]}'.{nearest(event_type, EVENT_TYPES)} Event types are: "
                f"{', '.join(EVENT_TYPES)}.",
                code="unknown_event_type",
                param=path if path == "event_type" else f"{path}[{number}]",
            )
    return [known_event_type for known_event_type in EVENT_TYPES if known_event_type in event_types]


class WebhookNeeds(Protocol):
    """The services of the daemon that the webhooks use."""

    database: Database
    scheduler: Scheduler
    outward: Fetcher
    features: Features


def build(services: WebhookNeeds) -> WebhookService:
    """Return the service of the feature."""
    sender = WebhookSender(services.outward)
    sending = WebhookDeliveries(
        services.database,
        sender,
        services.scheduler,
        services.features.settle,
        is_alone=services.database.postgres is None,
    )
    return WebhookService(services.database, sender, sending)
