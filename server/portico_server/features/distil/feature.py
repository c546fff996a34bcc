"""Declares the feature `distil`: small models that learn the answers behind an alias."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import DurableRuns, Feature

MAX_RUNNING: Final = 4
"""Maximum number of distillations that are active at the same time; each of them mostly waits for its training job."""

FEATURE: Final = Feature(
    name="distil",
    needs=("training", "canaries"),
    service="portico_server.features.distil.distillations:build",
    routers=("portico_server.features.distil.api.distillations:router",),
    paths=("/api/distillations*",),
    runs=(DurableRuns("distil", "work", concurrency=MAX_RUNNING, is_owned=True),),
)
