"""Declares the feature `webhooks`: events that are signed and sent to addresses of clients."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import BackgroundWork, Feature

FEATURE: Final = Feature(
    name="webhooks",
    service="portico_server.features.webhooks.webhooks:build",
    routers=(
        "portico_server.features.webhooks.api.openai_webhooks:router",
        "portico_server.features.webhooks.api.webhooks:router",
    ),
    paths=("/v1/webhook_endpoints*", "/v1/webhook_event_types", "/api/webhooks*"),
    background=(
        BackgroundWork("webhooks", "sending.run"),
        BackgroundWork("events of webhooks", "sending.settle"),
    ),
)
