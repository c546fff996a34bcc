"""Declares the feature `prompts`: the library of prompts."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import ConfigurationKey, Feature

FEATURE: Final = Feature(
    name="prompts",
    routers=("portico_server.features.prompts.api.prompts:router",),
    paths=("/api/prompts*",),
    keys=(
        ConfigurationKey(
            "prompts",
            read="portico_server.features.prompts.configuration:read",
            example="{name: greet, messages: Say hello.}",
            reconciler="portico_server.features.prompts.reconcile:build",
        ),
    ),
)
