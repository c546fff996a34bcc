"""Declares the feature `schedules`: apps that run and stores that are synchronized at given times."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import BackgroundWork, ConfigurationKey, Feature

FEATURE: Final = Feature(
    name="schedules",
    service="portico_server.features.schedules.schedules:build",
    routers=("portico_server.features.schedules.api.schedules:router",),
    paths=("/api/schedules*",),
    keys=(
        ConfigurationKey(
            "schedules",
            read="portico_server.features.schedules.reconcile:read",
            example="{name: papers, store: handbook, every: 6h}",
            reconciler="portico_server.features.schedules.reconcile:build",
        ),
    ),
    background=(BackgroundWork("schedules", "firing.run", starts_runs=True),),
)
