"""``/v1/webhook_endpoints``: webhooks for events such as the end of a job.

https://platform.openai.com/docs/guides/webhooks
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, Field

from portico_server.api.endpoint import Caller, feature_service, new_router
from portico_server.api.shapes import Moment, OpenAIList, Page, RemovedObject, shaped
from portico_server.db.webhooks import EVENT_TYPES, WebhookRow
from portico_server.features.webhooks.webhooks import MAX_NAME_LENGTH, MAX_URL_LENGTH, WebhookService, hint

router = new_router(prefix="/v1", tags=["OpenAI: webhooks"])

TheWebhooks = Annotated[WebhookService, feature_service("webhooks", WebhookService)]
"""The webhooks of all keys."""

MAX_EVENT_TYPES = 100
"""Maximum number of event types in a request."""

EventTypeName = Annotated[str, Field(min_length=1, max_length=100)]
EventTypeNames = Annotated[list[EventTypeName], Field(min_length=1, max_length=MAX_EVENT_TYPES)]
WebhookName = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH)]
WebhookUrl = Annotated[str, Field(min_length=1, max_length=MAX_URL_LENGTH)]


class WebhookRequest(BaseModel, extra="forbid"):
    """A webhook to create: the event types that it receives, and its address."""

    event_types: EventTypeNames
    name: WebhookName
    url: WebhookUrl


class WebhookChange(BaseModel, extra="forbid"):
    """Changes to a webhook; ``event_types`` replaces the whole list. ``disabled``, Portico's addition, stops
    deliveries until the webhook is changed again.
    """

    event_types: EventTypeNames | None = None
    name: WebhookName | None = None
    url: WebhookUrl | None = None
    disabled: bool | None = None


class RotateRequest(BaseModel, extra="forbid"):
    """Options for rotating a secret. ``keep_old_secret_active_for_24_hours``: for 24 hours, events are also signed
    with the previous secret.
    """

    keep_old_secret_active_for_24_hours: bool = False


class WebhookTestRequest(BaseModel, extra="forbid"):
    """A test of a webhook: the type of the event to send."""

    event_type: EventTypeName


class WebhookEndpoint(BaseModel):
    """A webhook. ``disabled``, Portico's addition, is the reason why deliveries have stopped, if they have."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: Moment
    updated_at: Moment
    event_types: list[str]
    name: str
    url: str
    signing_secret_hint: str
    disabled: str | None


class WebhookEndpointWithSecret(WebhookEndpoint):
    """A webhook and its secret. The secret is not shown again."""

    signing_secret: str


class WebhookTest(BaseModel):
    """The receiver's response to a test event. ``success``: true if the receiver responded."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: Literal[True] = True


class RemovedWebhook(RemovedObject):
    """The deleted webhook."""

    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"


@router.get("/webhook_event_types")
async def list_webhook_event_types(_caller: Caller) -> OpenAIList[str]:
    """Return the types of events that a webhook can subscribe to. ``run`` events are Portico's additions."""
    return OpenAIList(data=list(EVENT_TYPES))


@router.post("/webhook_endpoints")
async def create_webhook(
    body: WebhookRequest, webhooks: TheWebhooks, caller: Caller
) -> WebhookEndpointWithSecret:
    """Create a webhook for events of the caller's key. Its secret is shown only in this response."""
    return _with_secret(await webhooks.create(body.name, body.url, body.event_types, caller))


@router.get("/webhook_endpoints")
async def list_webhooks(
    webhooks: TheWebhooks,
    caller: Caller,
    after: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page[WebhookEndpoint]:
    """Return the caller's webhooks, newest first."""
    page = await webhooks.list(caller, after=after, limit=limit)
    return Page.of([_webhook(row) for row in page.data], page.has_more)


@router.get("/webhook_endpoints/{webhook_endpoint_id}")
async def retrieve_webhook(
    webhook_endpoint_id: str, webhooks: TheWebhooks, caller: Caller
) -> WebhookEndpoint:
    """Return one webhook."""
    return _webhook(await webhooks.get(webhook_endpoint_id, caller))


@router.post("/webhook_endpoints/{webhook_endpoint_id}")
async def update_webhook(
    webhook_endpoint_id: str, body: WebhookChange, webhooks: TheWebhooks, caller: Caller
) -> WebhookEndpoint:
    """Change the given fields of a webhook. A change re-enables a disabled webhook."""
    changes = body.model_dump(exclude_none=True)
    return _webhook(await webhooks.change(webhook_endpoint_id, caller, **changes))


@router.delete("/webhook_endpoints/{webhook_endpoint_id}")
async def delete_webhook(webhook_endpoint_id: str, webhooks: TheWebhooks, caller: Caller) -> RemovedWebhook:
    """Delete a webhook and its delivery history."""
    await webhooks.delete(webhook_endpoint_id, caller)
    return RemovedWebhook(id=webhook_endpoint_id)


@router.post("/webhook_endpoints/{webhook_endpoint_id}/rotate_secret")
async def rotate_webhook_secret(
    webhook_endpoint_id: str, webhooks: TheWebhooks, caller: Caller, body: RotateRequest | None = None
) -> WebhookEndpointWithSecret:
    """Replace the secret of a webhook. The new secret is shown only in this response."""
    keep_old = body is not None and body.keep_old_secret_active_for_24_hours
    return _with_secret(await webhooks.rotate(webhook_endpoint_id, caller, keep_old=keep_old))


@router.post("/webhook_endpoints/{webhook_endpoint_id}/test")
async def test_webhook(
    webhook_endpoint_id: str, body: WebhookTestRequest, webhooks: TheWebhooks, caller: Caller
) -> WebhookTest:
    """Send a sample event once and immediately, even if the webhook does not subscribe to its type."""
    status = await webhooks.test(webhook_endpoint_id, body.event_type, caller)
    return WebhookTest(
        webhook_endpoint_id=webhook_endpoint_id, event_type=body.event_type, status_code=status
    )


def _webhook(row: WebhookRow) -> WebhookEndpoint:
    return shaped(WebhookEndpoint, row, signing_secret_hint=hint(row.secret))


def _with_secret(row: WebhookRow) -> WebhookEndpointWithSecret:
    return shaped(
        WebhookEndpointWithSecret, row, signing_secret_hint=hint(row.secret), signing_secret=row.secret
    )
