"""Declares the feature `files`: uploaded files, whole or in parts."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import Feature

FEATURE: Final = Feature(
    name="files",
    routers=(
        "portico_server.features.files.api.files:router",
        "portico_server.features.files.api.uploads:router",
    ),
    paths=(
        "/v1/files*",
        "/v1/uploads*",
    ),
)
