"""``/v1/fine_tuning/jobs``: model training, in OpenAI's format."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request

from portico_server.api.endpoint import Caller, TheServices, feature_service, new_router
from portico_server.api.shapes import Page, PartialList
from portico_server.features.training.api import fine_tuning_shapes as shapes
from portico_server.features.training.api.fine_tuning_shapes import (
    FineTuningJob,
    FineTuningJobRequest,
    JobCheckpoint,
    JobEvent,
)
from portico_server.features.training.jobs import FineTuningJobs

router = new_router(prefix="/v1/fine_tuning/jobs", tags=["OpenAI: fine-tuning"])

TheJobs = Annotated[FineTuningJobs, feature_service("training", FineTuningJobs)]
"""The fine-tuning jobs of the daemon."""

Limit = Annotated[int, Query(ge=1, le=1_000)]


@router.post("")
async def create_fine_tuning_job(body: FineTuningJobRequest, jobs: TheJobs, caller: Caller) -> FineTuningJob:
    """Start a fine-tuning job. Its files are checked in the background; the job's events show the result."""
    caller.require("finetune")
    return shapes.job(await jobs.create(body.spec(), caller, ignored_notes=body.ignored()))


@router.get("")
async def list_fine_tuning_jobs(
    request: Request, jobs: TheJobs, caller: Caller, after: str | None = None, limit: Limit = 20
) -> PartialList[FineTuningJob]:
    """Return the caller's fine-tuning jobs, newest first. With ``metadata[k]=v``, return only jobs whose metadata
    contains the value.
    """
    metadata = {
        name.removeprefix("metadata[").removesuffix("]"): value
        for name, value in request.query_params.multi_items()
        if name.startswith("metadata[") and name.endswith("]")
    }
    page = await jobs.list(caller, after=after, limit=limit, metadata=metadata)
    return PartialList(data=[shapes.job(job) for job in page.data], has_more=page.has_more)


@router.get("/{job_id}")
async def retrieve_fine_tuning_job(job_id: str, jobs: TheJobs, caller: Caller) -> FineTuningJob:
    """Return one fine-tuning job."""
    return shapes.job(await jobs.get(job_id, caller))


@router.post("/{job_id}/cancel")
async def cancel_fine_tuning_job(job_id: str, jobs: TheJobs, caller: Caller) -> FineTuningJob:
    """Cancel a fine-tuning job permanently."""
    return shapes.job(await jobs.cancel(job_id, caller))


@router.post("/{job_id}/pause")
async def pause_fine_tuning_job(job_id: str, jobs: TheJobs, caller: Caller) -> FineTuningJob:
    """Pause a fine-tuning job. A resumed job continues from its last checkpoint."""
    return shapes.job(await jobs.pause(job_id, caller))


@router.post("/{job_id}/resume")
async def resume_fine_tuning_job(job_id: str, jobs: TheJobs, caller: Caller) -> FineTuningJob:
    """Resume a paused fine-tuning job."""
    return shapes.job(await jobs.resume(job_id, caller))


@router.get("/{job_id}/events")
async def list_fine_tuning_events(
    job_id: str, jobs: TheJobs, caller: Caller, after: str | None = None, limit: Limit = 20
) -> PartialList[JobEvent]:
    """Return the events of a fine-tuning job, newest first: messages and metrics."""
    job = await jobs.get(job_id, caller)
    before = None if after is None else shapes.number_of(after)
    kinds = ("message", "metrics", "checkpoint")
    page = await jobs.events(job, kinds, before=before, limit=limit)
    return PartialList(data=[shapes.event(row) for row in page.data], has_more=page.has_more)


@router.get("/{job_id}/checkpoints")
async def list_fine_tuning_job_checkpoints(
    job_id: str,
    jobs: TheJobs,
    services: TheServices,
    caller: Caller,
    after: str | None = None,
    limit: Limit = 10,
) -> Page[JobCheckpoint]:
    """Return the checkpoints of a fine-tuning job, newest first."""
    job = await jobs.get(job_id, caller)
    before = None if after is None else shapes.number_of(after)
    page = await jobs.events(job, ("checkpoint",), before=before, limit=limit)
    data = [
        shapes.checkpoint(row, job, lambda name: services.registry.get(name, caller) is not None)
        for row in page.data
    ]
    return Page.of(data, page.has_more)
