"""Declares the feature `agents`: apps in which a model chooses the next step, with the sessions they remember."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import Feature

FEATURE: Final = Feature(
    name="agents",
    service="portico_server.features.agents.api.agent_service:build",
    routers=(
        "portico_server.features.agents.api.agents:router",
        "portico_server.features.agents.api.sessions:router",
        "portico_server.features.agents.api.facts:router",
        "portico_server.features.agents.api.sessions:rating_router",
    ),
    paths=("/api/agents*", "/api/schemas/agent", "/api/sessions*", "/api/facts*", "/api/ratings*"),
)
