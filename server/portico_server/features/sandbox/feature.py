"""Declares the feature `sandbox`: containers in which the code of models runs."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import Feature

FEATURE: Final = Feature(
    name="sandbox",
    routers=("portico_server.features.sandbox.api.containers:router",),
    paths=("/v1/containers*",),
)
