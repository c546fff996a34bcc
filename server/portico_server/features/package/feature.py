"""Declares the feature `package`: archives with which an app runs elsewhere."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import Feature

FEATURE: Final = Feature(
    name="package", needs=("agents",), service="portico_server.features.package.api.package_service:build"
)
