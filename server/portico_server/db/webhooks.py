"""Webhooks, their events, and the journal of deliveries.

`announce` is called in the transaction that ends an object, so that the end and its event are written together.
`claim` assigns each event to one daemon for sending, with a lease by the database's clock.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Final, Literal, TypeAlias

import orjson
from sqlalchemy import ColumnElement, Connection, delete, func, or_, select, update

from portico_server.core.dataclass import dataclass
from portico_server.core.ids import new_id
from portico_server.db import agent_tasks
from portico_server.db.agent_tasks import ENDED_STATES, AgentTaskRow, TaskState
from portico_server.db.database import after_commit
from portico_server.db.rows import RowPage, Rows, may_have_another
from portico_server.db.rows import database_time as clock
from portico_server.db.schema import responses, webhooks
from portico_server.db.schema import webhook_deliveries as deliveries

DeliveryState: TypeAlias = Literal["pending", "delivered", "failed"]

EVENT_TYPES: Final = (
    *(f"response.{end}" for end in ("completed", "failed", "incomplete", "cancelled")),
    *(f"batch.{end}" for end in ("completed", "failed", "cancelled", "expired")),
    *(f"fine_tuning.job.{end}" for end in ("succeeded", "failed", "cancelled")),
    *(f"eval.run.{end}" for end in ("succeeded", "failed", "canceled")),
    *(f"run.{end}" for end in ("finished", "failed", "cancelled")),
    "schedule.paused",
    "canary.promoted",
    "canary.rolled_back",
    "store.change_held",
    "store.change_warned",
)
"""Event types that a webhook can subscribe to. Types beginning with ``run``, ``schedule``, ``canary`` and ``store``
are Portico's; all others are OpenAI's.
"""

INPUT_REQUIRED: Final = "agent_task.input_required"
"""Event only for the webhooks of a single task: the task waits for an answer before it continues."""

TOPIC: Final = "webhook events"
"""Topic under which the database announces new events."""

MAX_PENDING_EVENTS: Final = 10_000
"""Maximum number of an owner's pending events. Events above it are stored as failed, and can be sent again later."""

MAX_ERROR_CHARS: Final = 300
"""Maximum length of a delivery's error, in characters."""

CANDIDATE_ROWS: Final = 64
"""Number of rows read at a time when looking for events to send."""


@dataclass(frozen=True, slots=True)
class WebhookRow:
    """A webhook. Until ``previous_until``, deliveries are also signed with ``previous_secret``; ``disabled`` is the
    reason why nothing is sent.

    A webhook for a single agent task has a ``task_id``, and ``headers`` that its receiver expects.
    """

    id: str
    owner: str
    name: str
    url: str
    event_types: Sequence[str]
    secret: str = field(repr=False)
    created_at: float
    updated_at: float
    previous_secret: str | None = field(default=None, repr=False)
    previous_until: float | None = None
    disabled: str | None = None
    task_id: str | None = None
    headers: Mapping[str, str] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """The delivery of an event to a webhook. ``next_at`` is the time of the next attempt, by the database's clock."""

    id: str
    webhook_id: str
    owner: str
    event_type: str
    payload: str
    state: DeliveryState
    attempts: int
    next_at: float
    created_at: float
    last_status: int | None = None
    last_error: str | None = None
    delivered_at: float | None = None


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery to make now: ``attempt`` counts from 1; ``secrets`` are the signing secrets, newest first."""

    id: str
    webhook_id: str
    owner: str
    url: str
    payload: str
    attempt: int
    secrets: Sequence[str] = field(repr=False)
    headers: Mapping[str, str] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class DeliveryBounds:
    """Limits on simultaneous deliveries: of one daemon, and of all daemons together to one webhook and for one
    owner.
    """

    here: int
    per_webhook: int
    per_owner: int


@dataclass(frozen=True, slots=True)
class DeliveryOutcome:
    """The outcome of an attempt; ``retry_s`` is the number of seconds until the next attempt, or ``None`` if no
    attempt follows.
    """

    delivered: bool
    status: int | None = None
    error: str | None = None
    retry_s: float | None = None


_WEBHOOKS = Rows(webhooks, WebhookRow)
_DELIVERIES = Rows(deliveries, DeliveryRow)

get = _WEBHOOKS.get
delivery = _DELIVERIES.get


def payload(event_id: str, event_type: str, subject: str, created_at: float) -> str:
    """Return the JSON document of an event in OpenAI's format; ``subject`` is the id of the object that has ended."""
    document = {
        "id": event_id,
        "object": "event",
        "created_at": int(created_at),
        "type": event_type,
        "data": {"id": subject},
    }
    return orjson.dumps(document).decode()


def add(connection: Connection, row: WebhookRow, limit: int) -> bool:
    """Store a new webhook, unless its owner already has ``limit`` webhooks; return whether it was stored."""
    if not may_have_another(connection, limit, webhooks.c.owner == row.owner, _OF_EVENTS):
        return False
    _WEBHOOKS.add(connection, row)
    return True


def add_to_task(connection: Connection, row: WebhookRow, limit: int) -> bool:
    """Store a webhook for a task, replacing a webhook with the same name, unless the task already has ``limit``
    webhooks; return whether it was stored.

    If the task has already ended, the event for its end is written immediately.
    """
    assert row.task_id is not None
    condition = webhooks.c.task_id == row.task_id
    connection.execute(delete(webhooks).where(condition, webhooks.c.name == row.name))
    if not may_have_another(connection, limit, condition):
        return False
    _WEBHOOKS.add(connection, row)
    task = agent_tasks.get(connection, row.task_id)
    status = connection.execute(select(responses.c.status).where(responses.c.id == row.task_id)).scalar()
    if task is not None and status in ENDED_STATES:
        _write(connection, task.owner, [row.id], f"response.{status}", task.id, task)
    return True


def of_task(connection: Connection, task_id: str) -> list[WebhookRow]:
    """Return the webhooks of a task, oldest first."""
    return _WEBHOOKS.every(
        connection, _WEBHOOKS.select.where(webhooks.c.task_id == task_id).order_by(webhooks.c.id)
    )


def remove_of_tasks(connection: Connection, task_ids: Sequence[str]) -> None:
    """Delete the webhooks of deleted tasks."""
    connection.execute(delete(webhooks).where(webhooks.c.task_id.in_(task_ids)))


_OF_EVENTS = webhooks.c.task_id.is_(None)
"""SQL condition for webhooks that are not limited to a single task."""


def page(
    connection: Connection, owner: str | None, *, after: str | None = None, limit: int = 20
) -> RowPage[WebhookRow]:
    """Return webhooks, newest first: all, or only those of ``owner``."""
    query = _WEBHOOKS.select.where(_OF_EVENTS).order_by(webhooks.c.id.desc())
    if owner is not None:
        query = query.where(webhooks.c.owner == owner)
    if after is not None:
        query = query.where(webhooks.c.id < after)
    return _WEBHOOKS.page(connection, query, limit)


def change(connection: Connection, webhook_id: str, values: Mapping[str, Any]) -> None:
    """Change ``values`` of a webhook; a disabled webhook becomes enabled."""
    connection.execute(
        update(webhooks)
        .where(webhooks.c.id == webhook_id)
        .values(disabled=None, **values, updated_at=time.time())
    )


def rotate(connection: Connection, webhook_id: str, secret: str, keep_s: float) -> None:
    """Replace the secret of a webhook; for ``keep_s`` seconds, deliveries are also signed with the old secret."""
    changes = {
        "previous_secret": webhooks.c.secret if keep_s else None,
        "previous_until": clock(connection) + keep_s if keep_s else None,
    }
    connection.execute(
        update(webhooks)
        .where(webhooks.c.id == webhook_id)
        .values(secret=secret, updated_at=time.time(), **changes)
    )


def remove(connection: Connection, webhook_id: str) -> None:
    """Delete a webhook with its deliveries."""
    connection.execute(delete(webhooks).where(webhooks.c.id == webhook_id))


def disable(connection: Connection, webhook_id: str, reason: str, url: str | None = None) -> None:
    """Disable a webhook, unless its address is no longer ``url``; its pending deliveries fail."""
    has_url = [webhooks.c.url == url] if url is not None else []
    result = connection.execute(
        update(webhooks)
        .where(webhooks.c.id == webhook_id, *has_url)
        .values(disabled=func.coalesce(webhooks.c.disabled, reason))
    )
    if not result.rowcount:
        return
    condition = (deliveries.c.webhook_id == webhook_id) & (deliveries.c.state == "pending")
    connection.execute(
        update(deliveries)
        .where(condition)
        .values(state="failed", last_error=reason, lease_owner=None, lease_until=None)
    )


def any_used(connection: Connection) -> bool:
    """Return whether any webhook is enabled."""
    return (
        connection.execute(select(webhooks.c.id).where(webhooks.c.disabled.is_(None)).limit(1)).first()
        is not None
    )


def announce(connection: Connection, owner: str | None, event_type: str, subject: str) -> None:
    """Write an event for each webhook of ``owner`` that subscribes to ``event_type``, in the transaction that ends the
    object ``subject``.
    """
    if owner is None or not _has_webhook(connection, owner):
        return
    condition = (webhooks.c.owner == owner) & webhooks.c.disabled.is_(None)
    columns = (webhooks.c.id, webhooks.c.event_types, webhooks.c.task_id)
    webhook_rows = connection.execute(
        select(*columns).where(condition, or_(_OF_EVENTS, webhooks.c.task_id == subject))
    ).all()
    wanting = [row.id for row in webhook_rows if row.task_id is None and event_type in row.event_types]
    _write(connection, owner, wanting, event_type, subject)
    if of_task := [row.id for row in webhook_rows if row.task_id is not None]:
        _write(connection, owner, of_task, event_type, subject, agent_tasks.get(connection, subject))


def announce_question(connection: Connection, owner: str, run_id: str) -> None:
    """Write an event for each webhook of the task that a run works on, because the run now waits for an answer."""
    if not _has_webhook(connection, owner):
        return
    task = agent_tasks.of_run(connection, run_id)
    if task is not None:
        hearing = [row.id for row in of_task(connection, task.id) if row.disabled is None]
        _write(connection, owner, hearing, INPUT_REQUIRED, task.id, task)


def _write(
    connection: Connection,
    owner: str,
    wanting: Sequence[str],
    event_type: str,
    subject: str,
    task: AgentTaskRow | None = None,
) -> None:
    """Write an event for each of these webhooks, in OpenAI's format or, for a ``task`` of an agent, in A2A's."""
    if not wanting:
        return
    free = MAX_PENDING_EVENTS - count_pending(connection, owner)
    now, moment = time.time(), clock(connection)
    for number, webhook_id in enumerate(wanting):
        event_id, full = new_id("evt_"), number >= free
        row = DeliveryRow(
            event_id,
            webhook_id,
            owner,
            event_type,
            payload(event_id, event_type, subject, now) if task is None else _of_task(task, event_type, now),
            "failed" if full else "pending",
            attempts=0,
            next_at=moment,
            created_at=now,
            last_error=f"{MAX_PENDING_EVENTS:,} events were already pending." if full else None,
        )
        _DELIVERIES.add(connection, row)
    after_commit(connection, TOPIC)


def _of_task(task: AgentTaskRow, event_type: str, moment: float) -> str:
    state: TaskState = ENDED_STATES.get(event_type.rpartition(".")[2], "input_required")
    return orjson.dumps(agent_tasks.update_document(task.id, task.context_id, state, moment)).decode()


def _has_webhook(connection: Connection, owner: str) -> bool:
    """Return whether an owner has an enabled webhook. If not, this check is the only cost when an object ends."""
    if connection.dialect.name == "sqlite":
        # Without SQLAlchemy, which would take as long as everything else that happens when a run ends.
        driver: Any = connection.connection.driver_connection
        return driver.execute(_USED, (owner,)).fetchone() is not None
    condition = (webhooks.c.owner == owner) & webhooks.c.disabled.is_(None)
    return connection.execute(select(webhooks.c.id).where(condition).limit(1)).first() is not None


_USED = "SELECT 1 FROM webhooks WHERE owner = ? AND disabled IS NULL LIMIT 1"


def count_pending(connection: Connection, owner: str) -> int:
    """Return the number of an owner's pending events."""
    condition = (deliveries.c.owner == owner) & (deliveries.c.state == "pending")
    return connection.execute(select(func.count()).select_from(deliveries).where(condition)).scalar_one()


def claim(
    connection: Connection, holder: str, lease_s: float, limit: int, bounds: DeliveryBounds
) -> list[ClaimedDelivery]:
    """Claim at most ``limit`` due deliveries, oldest first, for ``lease_s`` seconds.

    ``bounds`` limits the simultaneous deliveries to one webhook and for one owner, counted over all daemons.
    """
    now = clock(connection)
    living = select(deliveries.c.webhook_id, deliveries.c.owner).where(deliveries.c.lease_until >= now)
    by_webhook: Counter[str] = Counter()
    by_owner: Counter[str] = Counter()
    for row in connection.execute(living):
        by_webhook[row.webhook_id] += 1
        by_owner[row.owner] += 1
    due = (
        (deliveries.c.state == "pending")
        & (deliveries.c.next_at <= now)
        & or_(deliveries.c.lease_until.is_(None), deliveries.c.lease_until < now)
        & webhooks.c.disabled.is_(None)
    )
    columns = (deliveries.c.id, deliveries.c.webhook_id, deliveries.c.owner, deliveries.c.payload)
    query = (
        select(*columns, deliveries.c.attempts, webhooks.c.url, webhooks.c.secret, webhooks.c.previous_secret)
        .add_columns(webhooks.c.previous_until, webhooks.c.headers)
        .join(webhooks, webhooks.c.id == deliveries.c.webhook_id)
        .where(due)
        .order_by(deliveries.c.next_at)
        .limit(CANDIDATE_ROWS)
    )
    claimed_deliveries: list[ClaimedDelivery] = []
    while len(claimed_deliveries) < limit:
        full_webhooks = [name for name, count in by_webhook.items() if count >= bounds.per_webhook]
        full_owners = [name for name, count in by_owner.items() if count >= bounds.per_owner]
        free = deliveries.c.webhook_id.not_in(full_webhooks) & deliveries.c.owner.not_in(full_owners)
        rows = connection.execute(query.where(free)).all()
        if not rows:
            break
        for row in rows:
            at_bound = (
                by_webhook[row.webhook_id] >= bounds.per_webhook or by_owner[row.owner] >= bounds.per_owner
            )
            if at_bound or len(claimed_deliveries) == limit:
                continue
            by_webhook[row.webhook_id] += 1
            by_owner[row.owner] += 1
            claimed_deliveries.append(_to_claim(connection, row, holder, now, lease_s))
    return claimed_deliveries


def _to_claim(connection: Connection, row: Any, holder: str, now: float, lease_s: float) -> ClaimedDelivery:
    values = {"lease_owner": holder, "lease_until": now + lease_s, "attempts": row.attempts + 1}
    connection.execute(update(deliveries).where(deliveries.c.id == row.id).values(**values))
    secrets = [row.secret]
    if row.previous_secret is not None and (row.previous_until or 0.0) > now:
        secrets.append(row.previous_secret)
    return ClaimedDelivery(
        row.id, row.webhook_id, row.owner, row.url, row.payload, row.attempts + 1, secrets, row.headers
    )


def settle(connection: Connection, delivery_id: str, holder: str, outcome: DeliveryOutcome) -> None:
    """Record the outcome of an attempt, unless another daemon now owns the delivery."""
    state: DeliveryState = "failed" if outcome.retry_s is None else "pending"
    values: dict[str, Any] = {
        "state": "delivered" if outcome.delivered else state,
        "last_status": outcome.status,
        "last_error": outcome.error[:MAX_ERROR_CHARS] if outcome.error else None,
        "delivered_at": time.time() if outcome.delivered else None,
    }
    if outcome.retry_s is not None:
        values["next_at"] = clock(connection) + outcome.retry_s
    condition = (deliveries.c.id == delivery_id) & (deliveries.c.lease_owner == holder)
    connection.execute(
        update(deliveries).where(condition).values(**values, lease_owner=None, lease_until=None)
    )


def release(connection: Connection, delivery_ids: Sequence[str], holder: str) -> None:
    """Release deliveries that were not completed because the daemon stops, so that they are due immediately."""
    condition = deliveries.c.id.in_(delivery_ids) & (deliveries.c.lease_owner == holder)
    connection.execute(update(deliveries).where(condition).values(lease_owner=None, lease_until=None))


def release_all(connection: Connection, holder: str) -> None:
    """Release all deliveries except those of ``holder``. Call this only if no other daemon can be running, which is
    true for SQLite because only one daemon uses a file.
    """
    condition = deliveries.c.lease_owner.is_not(None) & (deliveries.c.lease_owner != holder)
    connection.execute(update(deliveries).where(condition).values(lease_owner=None, lease_until=None))


def seconds_to_next(connection: Connection) -> float | None:
    """Return the seconds until the next delivery is due, 0 if one is overdue; ``None`` if none is pending."""
    now = clock(connection)
    free = or_(deliveries.c.lease_until.is_(None), deliveries.c.lease_until < now)
    condition = (deliveries.c.state == "pending") & free
    next_at = connection.execute(select(func.min(deliveries.c.next_at)).where(condition)).scalar()
    return None if next_at is None else max(0.0, float(next_at) - now)


def send_again(connection: Connection, delivery_id: str) -> bool:
    """Make a delivery due now and count its attempts from the start, unless its owner has too many pending events;
    return whether that was possible.
    """
    row = delivery(connection, delivery_id)
    if row is None:
        return True
    if row.state != "pending" and count_pending(connection, row.owner) >= MAX_PENDING_EVENTS:
        return False
    values = {"state": "pending", "next_at": clock(connection), "attempts": 0, "delivered_at": None}
    connection.execute(update(deliveries).where(deliveries.c.id == delivery_id).values(**values))
    after_commit(connection, TOPIC)
    return True


def deliveries_of(
    connection: Connection, webhook_id: str, *, after: str | None = None, limit: int = 20
) -> RowPage[DeliveryRow]:
    """Return the past and pending deliveries of a webhook, newest first."""
    query = _DELIVERIES.select.where(deliveries.c.webhook_id == webhook_id)
    if after is not None:
        query = query.where(deliveries.c.id < after)
    return _DELIVERIES.page(connection, query.order_by(deliveries.c.id.desc()), limit)


def _old(before: float) -> ColumnElement[bool]:
    return (deliveries.c.created_at < before) & (deliveries.c.state != "pending")


def count_old(connection: Connection, before: float) -> int:
    """Return the number of finished deliveries created before a time."""
    return connection.execute(select(func.count()).select_from(deliveries).where(_old(before))).scalar_one()


def forget(connection: Connection, before: float, limit: int) -> int:
    """Delete finished deliveries created before a time; return the number deleted."""
    old = connection.execute(select(deliveries.c.id).where(_old(before)).limit(limit)).scalars().all()
    if old:
        connection.execute(delete(deliveries).where(deliveries.c.id.in_(old)))
    return len(old)
