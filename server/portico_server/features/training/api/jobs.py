"""``/api/fine_tuning``: functions that OpenAI's API lacks, namely checks before a job starts and a live stream of a
job's events.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import Request

from portico.schemas import fine_tuning
from portico.schemas.fine_tuning import TuningAppCheck
from portico_server.api.endpoint import Caller, Seen, new_router
from portico_server.api.sse import EventStream, frame, while_present
from portico_server.core.dataclass import dataclass
from portico_server.core.principal import Principal
from portico_server.features.training.api import fine_tuning_shapes as shapes
from portico_server.features.training.api.fine_tuning import TheJobs
from portico_server.features.training.api.fine_tuning_shapes import FineTuningJobRequest
from portico_server.features.training.jobs import FineTuningJobs
from portico_server.features.training.spec import DataFacts, Job
from portico_server.features.training.training_command import training_command

router = new_router(prefix="/api/fine_tuning", tags=["Fine-tuning"])


@dataclass(frozen=True, slots=True)
class TuningPlan(fine_tuning.TuningPlan):
    """The plan of a job.

    ``recipe`` contains each setting; ``reasons`` explains the values. ``command`` starts the training: in it,
    ``python`` stands for the interpreter of the training environment and ``ORDER`` for the file that describes the
    training.
    """

    data: DataFacts  # type: ignore[assignment]  # the SDK has it as a JSON object


class TuningPlanRequest(FineTuningJobRequest, extra="forbid"):
    """The job to plan."""


@router.post("/plan")
async def plan_fine_tuning(
    body: TuningPlanRequest, request: Request, jobs: TheJobs, caller: Caller
) -> TuningPlan:
    """Check the files and choose the recipe without training."""
    caller.require("finetune")
    job_plan = await while_present(request, jobs.plan(body.spec(), caller))
    return TuningPlan(
        model=job_plan.base.name,
        parameters=job_plan.base.parameters,
        data=job_plan.facts,
        warnings=(*body.ignored(), *job_plan.warnings),
        recipe=job_plan.recipe.to_json(),
        command=tuple(training_command(Path("python"), job_plan.recipe, Path("ORDER"))),
    )


@router.post("/jobs/{job_id}/check")
async def check_fine_tuning_app(
    job_id: str, request: Request, jobs: TheJobs, caller: Caller
) -> TuningAppCheck:
    """Call the app of a job again with some of the job's examples, and compare the prompts. No chat model is called."""
    return await while_present(request, jobs.check_app(job_id, caller))


@router.get(
    "/jobs/{job_id}/follow",
    response_class=EventStream,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "The events in order, then the job"}
    },
)
async def follow_fine_tuning_job(
    job_id: str,
    jobs: TheJobs,
    caller: Caller,
    after: Seen,
) -> EventStream:
    """Stream the events of a job, starting with the first event or with the event after ``Last-Event-ID``, and finally
    the job itself.
    """
    await jobs.get(job_id, caller)
    return EventStream(_frames(jobs, job_id, caller, after))


async def _frames(jobs: FineTuningJobs, job_id: str, caller: Principal, after: int) -> AsyncIterator[bytes]:
    yield b": %s\n\n" % job_id.encode()
    async for update in jobs.follow(job_id, caller, after):
        if isinstance(update, Job):
            yield frame(after, "job", shapes.job(update).model_dump())
        else:
            after = update.seq
            yield frame(after, update.kind, shapes.event(update).model_dump())
