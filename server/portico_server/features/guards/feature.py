"""Declares the feature `guards`: guards around models and apps, and moderation."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import Feature

FEATURE: Final = Feature(
    name="guards",
    routers=("portico_server.features.guards.api.moderations:router",),
    paths=("/v1/moderations",),
)
