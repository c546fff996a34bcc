"""Declares the feature `prompts`: the library of prompts."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import Feature

FEATURE: Final = Feature(
    name="prompts",
    routers=("portico_server.features.prompts.api.prompts:router",),
    paths=("/api/prompts*",),
)
