"""Declares the feature `apps`: the list of apps, their runs and versions over HTTP."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import ConfigurationKey, Feature

FEATURE: Final = Feature(
    name="apps",
    needs=("agents", "flows"),
    routers=(
        "portico_server.features.apps.api.apps:router",
        "portico_server.features.package.api.packages:router",
    ),
    paths=("/api/apps*",),
    keys=(
        ConfigurationKey(
            "apps",
            read="portico_server.features.apps.configuration:read",
            example="{name: story, file: ./story.yaml}",
            also={"agents": "{name: clerk, instructions: Be brief.}"},
            reconciler="portico_server.features.apps.reconcile:build",
            always_begins=True,
        ),
    ),
)
