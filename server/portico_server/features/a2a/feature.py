"""Declares the feature `a2a`: agents of other systems that call apps over the Agent2Agent protocol."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import Feature, FeatureRoute

_HANDLER: Final = "portico_server.features.a2a.adapter:serve"
_SHAPE: Final = "portico_server.features.a2a.errors:HTTP"

FEATURE: Final = Feature(
    name="a2a",
    needs=("responses", "webhooks"),
    routes=(
        FeatureRoute("/.well-known/agent-card.json", "A2A", handler=_HANDLER, shape=_SHAPE),
        FeatureRoute(
            "/a2a/*",
            "A2A",
            handler=_HANDLER,
            shape=_SHAPE,
            shape_of="portico_server.features.a2a.adapter:shape_of",
        ),
    ),
)
