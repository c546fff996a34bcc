"""Declares the feature `guards`: guards around models and apps, and moderation."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import ConfigurationKey, Feature

FEATURE: Final = Feature(
    name="guards",
    routers=(
        "portico_server.features.guards.api.moderations:router",
        "portico_server.features.guards.api.guards:router",
    ),
    paths=("/v1/moderations", "/api/guards"),
    keys=(
        ConfigurationKey(
            "guards",
            read="portico_server.features.guards.configuration:read",
            example="{name: pii, on: '*', detect: [pii], action: mask}",
            setter="portico_server.features.guards.configuration:set_guards",
        ),
    ),
)
