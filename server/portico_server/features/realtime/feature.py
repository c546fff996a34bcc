"""Declares the feature `realtime`: spoken conversations over a WebSocket, as at OpenAI."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import Feature, FeatureRoute

FEATURE: Final = Feature(
    name="realtime",
    needs=("responses",),
    routes=(
        FeatureRoute(
            "/v1/realtime",
            "OpenAI",
            socket="portico_server.features.realtime.api.realtime:serve",
            takes_client_secret=True,
        ),
    ),
    routers=("portico_server.features.realtime.api.realtime_secrets:router",),
    paths=("/v1/realtime/*",),
)
