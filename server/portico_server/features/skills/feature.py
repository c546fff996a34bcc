"""Declares the feature `skills`: instructions and files that models read step by step."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import ConfigurationKey, Feature

FEATURE: Final = Feature(
    name="skills",
    routers=("portico_server.features.skills.api.skills:router",),
    paths=("/v1/skills*",),
    keys=(
        ConfigurationKey(
            "skills",
            read="portico_server.features.skills.configuration:read",
            example="{name: review, folder: ./skills/review}",
            reconciler="portico_server.features.skills.reconcile:build",
        ),
    ),
)
