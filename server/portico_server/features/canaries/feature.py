"""Declares the feature `canaries`: aliases whose calls are split between their current and their next target."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import ConfigurationKey, Feature

FEATURE: Final = Feature(
    name="canaries",
    service="portico_server.features.canaries.api.canary_service:build",
    routers=("portico_server.features.canaries.api.canaries:router",),
    paths=("/api/canaries*",),
    keys=(
        ConfigurationKey(
            "aliases",
            read="portico_server.features.canaries.configuration:read",
            example="{name: helper, target: default}",
            reconciler="portico_server.features.canaries.reconcile:build",
        ),
    ),
)
