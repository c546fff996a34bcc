"""``/api/webhooks/{id}/deliveries``: list the deliveries of a webhook, and redeliver events."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import Query

from portico.schemas.webhooks import WebhookDelivery
from portico_server.api.endpoint import Caller, new_router
from portico_server.api.shapes import Page, shaped
from portico_server.db.webhooks import DeliveryRow
from portico_server.features.webhooks.api.openai_webhooks import TheWebhooks

router = new_router(prefix="/api/webhooks", tags=["Webhooks"])


@router.get("/{webhook_id}/deliveries")
async def list_deliveries(
    webhook_id: str,
    webhooks: TheWebhooks,
    caller: Caller,
    after: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page[WebhookDelivery]:
    """List the past and pending deliveries of a webhook, newest first."""
    page = await webhooks.deliveries(webhook_id, caller, after=after, limit=limit)
    return Page.of([_delivery(row) for row in page.data], page.has_more)


@router.post("/{webhook_id}/deliveries/{delivery_id}/redeliver")
async def redeliver(
    webhook_id: str, delivery_id: str, webhooks: TheWebhooks, caller: Caller
) -> WebhookDelivery:
    """Send the event of a delivery again with the full number of attempts, whatever the status of the delivery."""
    return _delivery(await webhooks.redeliver(webhook_id, delivery_id, caller))


def _delivery(row: DeliveryRow) -> WebhookDelivery:
    return shaped(
        WebhookDelivery,
        row,
        next_at=row.next_at if row.state == "pending" else None,
        payload=json.loads(row.payload),
    )
