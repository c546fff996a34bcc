# Generated from portico._async by scripts/sdk: change it there.
"""Webhooks: notifications about finished work."""

from __future__ import annotations

from collections.abc import Sequence

from portico._sync.calls import webhooks as calls_webhooks
from portico.schemas.webhooks import NewWebhook

WHAT = "a webhook"


class Webhooks(calls_webhooks.Webhooks):
    """URLs that receive signed events; receivers verify the events with `portico.webhooks.verify_webhook`."""

    def create(self, url: str, event_types: Sequence[str], *, name: str | None = None) -> NewWebhook:
        """Create a webhook for work that this key starts. Only this response contains the webhook's secret.

        ``name`` defaults to the URL. Raises `InvalidRequest` for a URL that is not accepted.
        """
        body = {"url": url, "event_types": list(event_types), "name": name or url[:200]}
        return self._transport.request("POST", "/v1/webhook_endpoints", NewWebhook, json=body)
