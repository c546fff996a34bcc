"""Declares the feature `evals`: evaluations, searches over their settings, and improvements of apps."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import DurableRuns, Feature

MAX_RUNNING_EVALS: Final = 64
"""Maximum number of runs that are active at the same time; they share the daemon's slots."""

MAX_RUNNING_SEARCHES: Final = 8
"""Maximum number of searches that are active at the same time; they share the daemon's slots."""

MAX_RUNNING_IMPROVEMENTS: Final = 4
"""Maximum number of improvements that are active at the same time; they share the slots of evaluations."""

FEATURE: Final = Feature(
    name="evals",
    service="portico_server.features.evals.api.evals_service:build",
    routers=(
        "portico_server.features.evals.api.evals:router",
        "portico_server.features.evals.api.native_evals:router",
        "portico_server.features.evals.api.improvements:router",
    ),
    paths=("/v1/evals*", "/api/evals*", "/api/improvements*"),
    runs=(
        DurableRuns("eval", "runs.work", concurrency=MAX_RUNNING_EVALS, is_owned=True),
        DurableRuns("eval_search", "searches.work", concurrency=MAX_RUNNING_SEARCHES, is_owned=True),
        DurableRuns("improve", "improvements.work", concurrency=MAX_RUNNING_IMPROVEMENTS, is_owned=True),
    ),
    settle="runs.settle_deserted",
)
