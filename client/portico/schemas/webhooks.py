"""Webhooks and their deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from portico._read import Page
from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class Webhook:
    """A URL that is notified of finished work. ``disabled`` says why events are no longer sent to the URL.

    Times are in seconds since 1970.
    """

    id: str
    name: str
    url: str
    event_types: tuple[str, ...]
    signing_secret_hint: str = ""
    disabled: str | None = None
    created_at: float = 0
    updated_at: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWebhook(Webhook):
    """A webhook with its secret, which is shown only once."""

    signing_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """The delivery of an event to a webhook. ``id`` is the header ``webhook-id``, which is the same in each attempt.

    Times are in seconds since 1970. ``next_at`` is set while the delivery is ``pending``; ``last_status`` and
    ``last_error`` describe the last attempt.
    """

    id: str
    webhook_id: str
    event_type: str
    state: Literal["pending", "delivered", "failed"]
    attempts: int
    next_at: float | None
    last_status: int | None
    last_error: str | None
    created_at: float
    delivered_at: float | None
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """An event that a receiver gets. ``data["id"]`` is the id of the finished work; ``type`` says how the work ended.

    The same event may arrive more than once, each time with the same ``id``.
    """

    id: str
    type: str
    created_at: int
    data: Mapping[str, Any]


WEBHOOKS = Resource(
    "Webhooks",
    "/v1/webhook_endpoints",
    "URLs that receive signed events; receivers verify the events with `portico.webhooks.verify_webhook`.",
    {"webhook_id": "a webhook", "delivery_id": "a delivery"},
    (
        Verb("list", "GET", Page[Webhook]),
        Verb("get", "GET {webhook_id}", Webhook),
        Verb("change", "POST {webhook_id}", Webhook),
        Verb(
            "rotate",
            "POST {webhook_id}/rotate_secret",
            NewWebhook,
            aliases={"keep_old": "keep_old_secret_active_for_24_hours"},
        ),
        Verb("test", "POST {webhook_id}/test", int, key="status_code", slow=True),
        Verb("remove", "DELETE {webhook_id}"),
        Verb("event_types", "GET /v1/webhook_event_types", list[str]),
        Verb("deliveries", "GET /api/webhooks/{webhook_id}/deliveries", Page[WebhookDelivery]),
        Verb(
            "redeliver", "POST /api/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver", WebhookDelivery
        ),
    ),
    columns=(
        Column("ID"),
        Column("NAME"),
        Column("URL"),
        Column("EVENTS", "event_types"),
        Column("DISABLED"),
    ),
)
