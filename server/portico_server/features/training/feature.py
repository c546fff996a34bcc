"""Declares the feature `training`: fine-tuning of models, here and at providers."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import DurableRuns, Feature

MAX_ACTIVE_JOBS: Final = 64
"""Maximum number of jobs whose files are being checked, that wait to train, or that train; only one job trains at
a time.
"""

FEATURE: Final = Feature(
    name="training",
    service="portico_server.features.training.api.fine_tuning_service:build",
    routers=(
        "portico_server.features.training.api.fine_tuning:router",
        "portico_server.features.training.api.jobs:router",
    ),
    paths=("/v1/fine_tuning*", "/api/fine_tuning*"),
    runs=(DurableRuns("finetune", "work", concurrency=MAX_ACTIVE_JOBS, is_bound=True),),
    clean_up="clean_up",
    settle="settle_deserted",
    revoke="revoke",
)
