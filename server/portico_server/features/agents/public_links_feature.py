"""Declares the feature `public_links`: copies of sessions that anyone can read through a link."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import Feature, FeatureRoute

_PATH: Final = "/api/public-sessions/*"

FEATURE: Final = Feature(
    name="public_links",
    needs=("agents",),
    service="portico_server.features.agents.api.agent_service:build_public_links",
    routers=("portico_server.features.agents.api.sessions:public_router",),
    routes=(FeatureRoute(_PATH, "Portico", needs_key=False),),
    paths=(_PATH,),
)
