"""Declares the feature `skills`: instructions and files that models read step by step."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import Feature

FEATURE: Final = Feature(
    name="skills",
    routers=("portico_server.features.skills.api.skills:router",),
    paths=("/v1/skills*",),
)
