"""Declares the feature `batches`: files of requests that are answered in the background."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import DurableRuns, Feature

MAX_RUNNING_BATCHES: Final = 8
"""Maximum number of batches processed at the same time; they share the limit of concurrent requests."""

FEATURE: Final = Feature(
    name="batches",
    service="portico_server.features.batches.api.internal_requests:build_batches",
    routers=(
        "portico_server.features.batches.api.batches:router",
        "portico_server.features.batches.api.native_batches:router",
    ),
    paths=("/v1/batches*", "/api/batches*"),
    runs=(DurableRuns("batch", "work", concurrency=MAX_RUNNING_BATCHES, is_bound=True),),
    clean_up="clean_up",
    settle="settle_deserted",
)
