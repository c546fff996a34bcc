"""``/v1/fine_tuning/jobs``: training of local models, as OpenAI defines it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request

from portico_server.api.endpoint import Caller, TheParts
from portico_server.api.endpoint import new_router as new_router
from portico_server.api.openai import fine_tuning_shapes as shapes
from portico_server.api.openai.fine_tuning_shapes import (
    FineTuningJob,
    JobCheckpointList,
    JobEventList,
    JobList,
    JobWish,
)

router = new_router(prefix="/v1/fine_tuning/jobs", tags=["OpenAI: fine-tuning"])

Limit = Annotated[int, Query(ge=1, le=1_000)]


@router.post("")
async def create_fine_tuning_job(wish: JobWish, parts: TheParts, caller: Caller) -> FineTuningJob:
    """Begin a job. Its files are checked in the background; follow its events."""
    caller.require("finetune")
    return shapes.job(await parts.tuning.create(wish.spec(), caller, ignored=wish.ignored()))


@router.get("")
async def list_fine_tuning_jobs(
    request: Request, parts: TheParts, caller: Caller, after: str | None = None, limit: Limit = 20
) -> JobList:
    """The caller's jobs, the newest first; with ``metadata[k]=v`` those that have it."""
    metadata = {
        name.removeprefix("metadata[").removesuffix("]"): value
        for name, value in request.query_params.multi_items()
        if name.startswith("metadata[") and name.endswith("]")
    }
    page = await parts.tuning.list(caller, after=after, limit=limit, metadata=metadata)
    return JobList(data=[shapes.job(found) for found in page.data], has_more=page.has_more)


@router.get("/{job_id}")
async def retrieve_fine_tuning_job(job_id: str, parts: TheParts, caller: Caller) -> FineTuningJob:
    """One of them."""
    return shapes.job(await parts.tuning.get(job_id, caller))


@router.post("/{job_id}/cancel")
async def cancel_fine_tuning_job(job_id: str, parts: TheParts, caller: Caller) -> FineTuningJob:
    """End a job for good."""
    return shapes.job(await parts.tuning.cancel(job_id, caller))


@router.post("/{job_id}/pause")
async def pause_fine_tuning_job(job_id: str, parts: TheParts, caller: Caller) -> FineTuningJob:
    """Stop a job behind its last checkpoint."""
    return shapes.job(await parts.tuning.pause(job_id, caller))


@router.post("/{job_id}/resume")
async def resume_fine_tuning_job(job_id: str, parts: TheParts, caller: Caller) -> FineTuningJob:
    """Go on with a paused job."""
    return shapes.job(await parts.tuning.resume(job_id, caller))


@router.get("/{job_id}/events")
async def list_fine_tuning_events(
    job_id: str, parts: TheParts, caller: Caller, after: str | None = None, limit: Limit = 20
) -> JobEventList:
    """What happened to a job, the newest first: sentences and measurements."""
    job = await parts.tuning.get(job_id, caller)
    before = None if after is None else shapes.number_of(after)
    kinds = ("message", "metrics", "checkpoint")
    page = await parts.tuning.events(job, kinds, before=before, limit=limit)
    return JobEventList(data=[shapes.event(row) for row in page.data], has_more=page.has_more)


@router.get("/{job_id}/checkpoints")
async def list_fine_tuning_job_checkpoints(
    job_id: str, parts: TheParts, caller: Caller, after: str | None = None, limit: Limit = 10
) -> JobCheckpointList:
    """The checkpoints of a job, the newest first."""
    job = await parts.tuning.get(job_id, caller)
    before = None if after is None else shapes.number_of(after)
    page = await parts.tuning.events(job, ("checkpoint",), before=before, limit=limit)
    data = [
        shapes.checkpoint(row, job, lambda name: parts.registry.get(name, caller) is not None)
        for row in page.data
    ]
    return JobCheckpointList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=page.has_more,
    )
