"""Jobs that a hyperparameter search starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from portico_server.core.base_models import OnProgress
from portico_server.core.errors import Unavailable
from portico_server.core.principal import Principal
from portico_server.features.training.jobs import FineTuningJobs
from portico_server.features.training.spec import FineTuningSpec, Job

SEARCH_METADATA_KEY: Final = "portico_search"

TRIAL_METADATA_KEY: Final = "portico_trial"
"""Metadata key for the key that identifies a job within its search."""

MAX_SEARCH_JOBS: Final = 1_000


class SearchJobs:
    """A `portico_server.core.base_models.TrialTrainer` that uses the daemon's fine-tuning jobs.

    ``read`` parses a request into a specification; it raises `InvalidRequest`.
    """

    def __init__(self, jobs: FineTuningJobs, read: Callable[[Mapping[str, Any]], FineTuningSpec]) -> None:
        self._jobs = jobs
        self._read = read

    async def check(self, request: Mapping[str, Any], caller: Principal) -> None:
        await self._jobs.check(self._read(request), caller)

    async def begin(self, request: Mapping[str, Any], search: str, key: str, caller: Principal) -> str:
        row_page = await self._jobs.list(
            caller, limit=1, metadata={SEARCH_METADATA_KEY: search, TRIAL_METADATA_KEY: key}
        )
        if row_page.data:
            return row_page.data[0].id
        spec = self._read(request)
        metadata = {**spec.metadata, SEARCH_METADATA_KEY: search, TRIAL_METADATA_KEY: key}
        return (await self._jobs.create(replace(spec, metadata=metadata), caller, of_search=True)).id

    async def train(self, job_id: str, caller: Principal, on_progress: OnProgress) -> str:
        async for event in self._jobs.follow(job_id, caller):
            if not isinstance(event, Job):
                if event.kind == "metrics" and event.step is not None:
                    await on_progress(event.step, event.data.get("total_steps"))
                continue
            if event.status == "succeeded":
                return event.model
            reason = (event.error or {}).get("message") or f"It is {event.status}."
            raise Unavailable(
                f"The fine-tuning job '{event.id}' produced no model: {reason}", code="training_failed"
            )
        raise Unavailable(f"The fine-tuning job '{job_id}' cannot be tracked.", code="training_failed")

    async def stop(self, search: str, caller: Principal) -> None:
        row_page = await self._jobs.list(
            caller, limit=MAX_SEARCH_JOBS, metadata={SEARCH_METADATA_KEY: search}
        )
        for job in row_page.data:
            if not job.ended:
                await self._jobs.cancel(job.id, caller)
