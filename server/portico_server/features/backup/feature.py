"""Declares the feature `backup`: copies of all data as one archive."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import Feature

FEATURE: Final = Feature(
    name="backup",
    routers=("portico_server.features.backup.api.backup:router",),
    paths=(
        "/api/backup",
        "/api/vacuum",
    ),
)
