"""Webhooks: who hears of what has ended."""

from __future__ import annotations

from collections.abc import Sequence

from portico._async.calls import webhooks as calls_webhooks
from portico.schemas.webhooks import NewWebhook

WHAT = "a webhook"


class Webhooks(calls_webhooks.Webhooks):
    """Addresses to which events are sent, signed; `portico.webhooks.verify_webhook` checks them there."""

    async def create(self, url: str, event_types: Sequence[str], *, name: str | None = None) -> NewWebhook:
        """Make one, for what this key begins. Its secret is told here and never again.

        ``name`` is the address if it is not given. Raises `InvalidRequest` for an address that is not taken.
        """
        body = {"url": url, "event_types": list(event_types), "name": name or url[:200]}
        return await self._transport.request("POST", "/v1/webhook_endpoints", NewWebhook, json=body)
