# Made from portico/_async by scripts/twin: change it there.
"""Webhooks: who hears of what has ended."""

from __future__ import annotations

from collections.abc import Sequence

from portico._read import Page
from portico._request import at, given, named
from portico._sync.group import Group
from portico.schemas.webhooks import NewWebhook, Webhook, WebhookDelivery

WHAT = "a webhook"


class Webhooks(Group):
    """Addresses to which events are sent, signed; `portico.webhooks.verify_webhook` checks them there."""

    def create(self, url: str, event_types: Sequence[str], *, name: str | None = None) -> NewWebhook:
        """Make one, for what this key begins. Its secret is told here and never again.

        ``name`` is the address if it is not given. Raises `InvalidRequest` for an address that is not taken.
        """
        body = {"url": url, "event_types": list(event_types), "name": name or url[:200]}
        return self._transport.request("POST", "/v1/webhook_endpoints", NewWebhook, json=body)

    def list(self, *, after: str | None = None, limit: int = 20) -> Page[Webhook]:
        """One page, newest first; ``after`` is the ``last_id`` of the page before."""
        query = given(after=after, limit=limit)
        return self._transport.request("GET", "/v1/webhook_endpoints", Page[Webhook], query=query)

    def get(self, webhook_id: str) -> Webhook:
        """One by id. Raises `NotFound`."""
        return self._transport.request("GET", self._at(webhook_id), Webhook)

    def change(
        self,
        webhook_id: str,
        *,
        url: str | None = None,
        event_types: Sequence[str] | None = None,
        name: str | None = None,
        disabled: bool | None = None,
    ) -> Webhook:
        """Change what is given; ``event_types`` are all that it has then. One that was disabled is used again, and
        ``disabled`` stops what is sent until the next change.
        """
        types = None if event_types is None else list(event_types)
        body = given(url=url, event_types=types, name=name, disabled=disabled)
        return self._transport.request("POST", self._at(webhook_id), Webhook, json=body)

    def rotate(self, webhook_id: str, *, keep_old: bool = False) -> NewWebhook:
        """Give it another secret, told here and never again; ``keep_old``: the one before signs too for 24 hours."""
        body = {"keep_old_secret_active_for_24_hours": keep_old}
        path = self._at(webhook_id, "rotate_secret")
        return self._transport.request("POST", path, NewWebhook, json=body)

    def test(self, webhook_id: str, event_type: str) -> int:
        """Send a made-up event now, once; the HTTP status of the answer. Raises `InvalidRequest` if nobody answers."""
        path = self._at(webhook_id, "test")
        body = {"event_type": event_type}
        return self._transport.request("POST", path, int, json=body, key="status_code", slow=True)

    def remove(self, webhook_id: str) -> None:
        """Forget it, and what was sent to it."""
        return self._transport.request("DELETE", self._at(webhook_id), None)

    def event_types(self) -> Sequence[str]:
        """What a webhook can want."""
        return self._transport.request("GET", "/v1/webhook_event_types", list[str])

    def deliveries(
        self, webhook_id: str, *, after: str | None = None, limit: int = 20
    ) -> Page[WebhookDelivery]:
        """What was sent to one, or is to be, newest first; ``after`` is the ``last_id`` of the page before."""
        path = at("api", "webhooks", named(webhook_id, WHAT), "deliveries")
        query = given(after=after, limit=limit)
        return self._transport.request("GET", path, Page[WebhookDelivery], query=query)

    def redeliver(self, webhook_id: str, delivery_id: str) -> WebhookDelivery:
        """Send an event once more, whatever has become of it. Raises `Conflict` if the webhook is disabled."""
        parts = (named(webhook_id, WHAT), "deliveries", named(delivery_id, "a delivery"), "redeliver")
        return self._transport.request("POST", at("api", "webhooks", *parts), WebhookDelivery)

    def _at(self, webhook_id: str, *more: str) -> str:
        return at("v1", "webhook_endpoints", named(webhook_id, WHAT), *more)
