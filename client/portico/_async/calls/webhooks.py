# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.webhooks`."""

from __future__ import annotations

from collections.abc import Sequence

from portico._async.group import Group
from portico._read import Page
from portico._request import at, by_id, without_none
from portico.schemas.webhooks import NewWebhook, Webhook, WebhookDelivery


class Webhooks(Group):
    """URLs that receive signed events; receivers verify the events with `portico.webhooks.verify_webhook`."""

    async def list(self, *, after: str | None = None, limit: int | None = None) -> Page[Webhook]:
        """Return the caller's webhooks, newest first.

        ``limit``: (default: ``20``).
        """
        return await self._transport.request(
            "GET", "/v1/webhook_endpoints", Page[Webhook], query=without_none(after=after, limit=limit)
        )

    async def get(self, webhook_id: str) -> Webhook:
        """Return one webhook."""
        return await self._transport.request(
            "GET", at("v1", "webhook_endpoints", by_id(webhook_id, "a webhook")), Webhook
        )

    async def change(
        self,
        webhook_id: str,
        *,
        event_types: Sequence[str] | None = None,
        name: str | None = None,
        url: str | None = None,
        disabled: bool | None = None,
    ) -> Webhook:
        """Change the given fields of a webhook. A change re-enables a disabled webhook.

        Changes to a webhook; ``event_types`` replaces the whole list. ``disabled``, Portico's addition, stops
        deliveries until the webhook is changed again.
        """
        return await self._transport.request(
            "POST",
            at("v1", "webhook_endpoints", by_id(webhook_id, "a webhook")),
            Webhook,
            json=without_none(event_types=event_types, name=name, url=url, disabled=disabled),
        )

    async def rotate(self, webhook_id: str, *, keep_old: bool | None = None) -> NewWebhook:
        """Replace the secret of a webhook. The new secret is shown only in this response.

        Options for rotating a secret. ``keep_old_secret_active_for_24_hours``: for 24 hours, events are also
        signed with the previous secret.
        """
        return await self._transport.request(
            "POST",
            at("v1", "webhook_endpoints", by_id(webhook_id, "a webhook"), "rotate_secret"),
            NewWebhook,
            json=without_none(keep_old_secret_active_for_24_hours=keep_old),
        )

    async def test(self, webhook_id: str, event_type: str) -> int:
        """Send a sample event once and immediately, even if the webhook does not subscribe to its type.

        A test of a webhook: the type of the event to send.
        """
        return await self._transport.request(
            "POST",
            at("v1", "webhook_endpoints", by_id(webhook_id, "a webhook"), "test"),
            int,
            json=without_none(event_type=event_type),
            key="status_code",
            slow=True,
        )

    async def remove(self, webhook_id: str) -> None:
        """Delete a webhook and its delivery history."""
        return await self._transport.request(
            "DELETE", at("v1", "webhook_endpoints", by_id(webhook_id, "a webhook")), None
        )

    async def event_types(self) -> Sequence[str]:
        """Return the types of events that a webhook can subscribe to. ``run`` events are Portico's additions."""
        return await self._transport.request("GET", "/v1/webhook_event_types", list[str])

    async def deliveries(
        self, webhook_id: str, *, after: str | None = None, limit: int | None = None
    ) -> Page[WebhookDelivery]:
        """List the past and pending deliveries of a webhook, newest first.

        ``limit``: (default: ``20``).
        """
        return await self._transport.request(
            "GET",
            at("api", "webhooks", by_id(webhook_id, "a webhook"), "deliveries"),
            Page[WebhookDelivery],
            query=without_none(after=after, limit=limit),
        )

    async def redeliver(self, webhook_id: str, delivery_id: str) -> WebhookDelivery:
        """Send the event of a delivery again with the full number of attempts, whatever the status of the
        delivery.
        """
        return await self._transport.request(
            "POST",
            at(
                "api",
                "webhooks",
                by_id(webhook_id, "a webhook"),
                "deliveries",
                by_id(delivery_id, "a delivery"),
                "redeliver",
            ),
            WebhookDelivery,
        )
