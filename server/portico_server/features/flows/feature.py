"""Declares the feature `flows`: apps of steps that the daemon runs, durably if they ask for it."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import DurableRuns, Feature

KIND: Final = "flow"
"""The kind of app, and of the runs of flows."""

MAX_RUNNING_FLOWS: Final = 10_000
"""Maximum number of flows that run concurrently. Flows that wait for an answer do not count."""

FEATURE: Final = Feature(
    name="flows",
    needs=("agents",),
    service="portico_server.features.flows.api.flow_service:build",
    routers=("portico_server.features.flows.api.flows:router",),
    paths=("/api/flows*", "/api/schemas/flow"),
    shared_routers=("portico_server.features.flows.api.flow_runs:router",),
    runs=(DurableRuns(KIND, "work", concurrency=MAX_RUNNING_FLOWS, is_shared=True, is_owned=True),),
)
