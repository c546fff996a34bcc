"""Fine-tuning jobs: created, followed, paused, resumed and cancelled. A durable run does the work of each job."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from portico.schemas.fine_tuning import TuningAppCheck
from portico.wire import ErrorBody
from portico_server.core import pools
from portico_server.core.base_models import BaseModel, BaseModels, TrialTrainer
from portico_server.core.binding import binding
from portico_server.core.context import Context
from portico_server.core.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unavailable
from portico_server.core.ids import new_id
from portico_server.core.principal import SYSTEM, Principal
from portico_server.core.registry import Registry
from portico_server.core.training_passages import ReadableStores
from portico_server.db import runs, tuning
from portico_server.db.database import Database
from portico_server.db.rows import RowPage, json_bytes
from portico_server.db.tuning import EventRow, JobJson, JobRow, NewEvent
from portico_server.features.training import app_prompts, hosted
from portico_server.features.training.admission import FINETUNE_SCOPE, check_spec
from portico_server.features.training.job_context import WORKING_STATUSES, JobContext, Uploads
from portico_server.features.training.job_files import APP_STATE
from portico_server.features.training.plan import JobPlan, make_plan
from portico_server.features.training.spec import FineTuningSpec, Job
from portico_server.features.training.training_events import Trainer
from portico_server.features.training.training_queue import TrainingQueue
from portico_server.features.training.work import JobWork
from portico_server.launchers.local import LOCAL
from portico_server.runs.quotas import StorageQuota
from portico_server.runs.run import RunContext
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler, new_run

FINETUNE_RUN_KIND: Final = "finetune"

MAX_ENDED_AT_ONCE: Final = 8
"""Maximum number of a revoked key's jobs that are cancelled at the same time, because each may have to wait for its
provider.
"""

PAGE_SIZE: Final = 500

MIN_POLL_S: Final = 0.01
"""Minimum seconds between two requests for the status of a job at a provider."""

POLL_INTERVAL_S: Final = 1.0
"""Seconds between two checks of a job that is waiting, or that another daemon on the same database runs."""


_REVOKED: Final = "Fine-tuning job cancelled: its key was revoked"


class FineTuningJobs:
    """Manages fine-tuning jobs. ``folder`` contains the jobs' folders; ``trainer`` returns the trainer for a base
    model, and ``packages`` are the optional packages that trainers can use.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        runner: Runner,
        scheduler: Scheduler,
        bases: BaseModels,
        files: Uploads,
        stores: ReadableStores,
        trainer: Callable[[BaseModel], Trainer],
        folder: Path,
        packages: frozenset[str] = frozenset(),
        poll_s: float = 10.0,
        quota: StorageQuota | None = None,
        launcher: str = LOCAL.name,
    ) -> None:
        self._database = database
        self._quota = quota or StorageQuota()
        self._registry = registry
        self._runner = runner
        self._scheduler = scheduler
        self._bases = bases
        self._job_context = JobContext(
            database,
            registry,
            bases,
            files,
            trainer,
            folder,
            scheduler.holder,
            packages,
            TrainingQueue(),
            stores,
            max(poll_s, MIN_POLL_S),
            launcher,
        )
        self.trials: TrialTrainer
        """Starts the jobs of searches; injected by the function that builds the service."""

    async def clean_up(self) -> None:
        """Delete the files on disk of jobs that have succeeded, were cancelled, or were never stored."""
        unfinished_ids = await self._database.read(tuning.unfinished)
        await pools.TRAINING.run(_clean, self._job_context.folder, unfinished_ids)

    async def create(
        self,
        spec: FineTuningSpec,
        caller: Principal,
        *,
        ignored_notes: tuple[str, ...] = (),
        of_search: bool = False,
    ) -> Job:
        """Create a job. Its files are checked in the background; errors in the request itself are raised immediately.

        ``ignored_notes`` are sentences about options in the request that are ignored. With ``of_search``, the job
        belongs to a search, which trains one model at a time and counts against the limit itself. Raises `Forbidden`,
        `NotFound`, `InvalidRequest`, and `TooMany` if the caller has reached the limit of jobs per key.
        """
        with binding() as names:
            spec = await check_spec(self._job_context, spec, caller)
        job_id, run_id = new_id("ftjob-"), new_id("run_")
        row: JobJson = JobRow(
            id=job_id,
            owner=caller.id,
            run_id=run_id,
            base=spec.base,
            spec=spec.to_json(),
            state={"shared": caller.admin},
            status="validating_files",
            error=None,
            created_at=time.time(),
            finished_at=None,
        )
        await self._quota.admit(self._database, row.owner, json_bytes(row.spec))
        events = [NewEvent("message", f"Created fine-tuning job: {row.id}")]
        events += [NewEvent("message", sentence, "warn") for sentence in ignored_notes]
        with binding(names.known):
            run = new_run(FINETUNE_RUN_KIND, row.id, {"job": row.id}, caller.id, run_id)
            create = tuning.create
            if not of_search:
                create = self._scheduler.within_share(FINETUNE_RUN_KIND, caller, create)
            await self._database.write(create, row, run, events)
        self._scheduler.look()
        return Job.of(row)

    async def check(self, spec: FineTuningSpec, caller: Principal) -> None:
        """Raise the errors of `create` without creating a job."""
        await check_spec(self._job_context, spec, caller)

    async def plan(self, spec: FineTuningSpec, caller: Principal) -> JobPlan:
        """Check the files and choose the recipe as a job would, without training. Raises the errors with which the job
        would fail.
        """
        spec = await check_spec(self._job_context, spec, caller)
        if (tuner := self._bases.tuner(spec.base)) is not None:
            raise InvalidRequest(
                f"'{spec.base}' is trained at {tuner.provider}, which makes its own plan; start the job "
                "instead.",
                code="hosted_model",
                param="model",
            )

        work = partial(make_plan, self._job_context, spec, caller)
        job_plan: JobPlan = await self._runner.wait(
            await self._runner.begin("finetune_plan", spec.base, caller, work)
        )
        return job_plan

    async def check_app(self, job_id: str, caller: Principal) -> TuningAppCheck:
        """Return whether the app of a job still generates the prompts that the job trained on. Raises `Conflict` if
        nothing was stored for this check.
        """
        job = await self.get(job_id, caller)
        app_state = job.state.get(APP_STATE) or {}
        if not app_state.get("examples"):
            reason = "it was created without 'app'"
            if job.spec.app:
                reason = "its file has not been read yet, or its prompts are too long to be stored"
            raise Conflict(
                f"The job '{job.id}' cannot be checked: {reason}.",
                code="no_app",
                param="fine_tuning_job_id",
            )

        async def work(context: Context) -> TuningAppCheck:
            app = await app_prompts.find_app(job.spec.app, self._registry, caller)
            result = str(job.state.get("fine_tuned_model") or "")
            return await app_prompts.compare(app, app_state, result, self._registry, context)

        run = await self._runner.begin("finetune_check", job.spec.app, caller, work)
        app_check: TuningAppCheck = await self._runner.wait(run)
        return app_check

    async def get(self, job_id: str, caller: Principal) -> Job:
        """Return a job. Raises `NotFound`."""
        caller.require(FINETUNE_SCOPE)
        row = await self._database.read(tuning.get, job_id)
        if row is None or not caller.sees(row.owner):
            raise NotFound(
                f"The fine-tuning job '{job_id[:80]}' does not exist.",
                code="fine_tune_not_found",
                param="fine_tuning_job_id",
            )
        return Job.of(await self._settle(row))

    async def list(
        self,
        caller: Principal,
        *,
        after: str | None = None,
        limit: int = 20,
        metadata: Mapping[str, str] | None = None,
    ) -> RowPage[Job]:
        """Return the caller's jobs, newest first."""
        caller.require(FINETUNE_SCOPE)
        cursor = None
        if after is not None:
            await self.get(after, caller)
            cursor = await self._database.read(tuning.get, after)
        owner = None if caller.admin else caller.id
        row_page = await self._database.read(tuning.page, owner, after=cursor, limit=limit, metadata=metadata)
        return RowPage(tuple([Job.of(await self._settle(row)) for row in row_page.data]), row_page.has_more)

    async def _settle(self, row: JobJson) -> JobJson:
        """Return the job in its current state. If its run was cancelled or abandoned, end the job too."""
        if row.status not in WORKING_STATUSES:
            return row
        run = await self._database.read(runs.get, row.run_id)
        if run is not None and run.finished_at is None:
            return row
        error = dict(run.error) if run is not None and run.error else None
        status = "cancelled" if run is not None and run.status == "cancelled" else "failed"
        message = str((error or {}).get("message", "The run of this job no longer exists."))
        event = NewEvent("message", message, "error" if status == "failed" else "warn")
        await self._database.write(
            tuning.move,
            row.id,
            status,
            since=(row.status,),
            events=[event],
            error={"message": message, "code": (error or {}).get("code"), "param": None}
            if status == "failed"
            else None,
            has_ended=True,
        )
        if status == "cancelled":
            await hosted.cancel_there(self._job_context, Job.of(row))
            await pools.TRAINING.run(shutil.rmtree, self._job_context.folder_of(row.id), ignore_errors=True)
        return await self._database.read(tuning.get, row.id) or row

    async def settle_deserted(self) -> None:
        """End the jobs whose runs were ended elsewhere, because a client may never ask for them."""
        for row in await self._database.read(tuning.working):
            await self._settle(row)

    async def events(
        self, job: Job, kinds: tuple[str, ...], *, before: int | None = None, limit: int = 20
    ) -> RowPage[EventRow]:
        """Return a page of a job's events of these kinds with a number below ``before``, newest first."""
        return await self._database.read(tuning.newest, job.id, kinds, before=before, limit=limit)

    async def follow(
        self, job_id: str, caller: Principal, after: int = 0
    ) -> AsyncGenerator[EventRow | Job, None]:
        """Yield events with a number above ``after`` as they occur, then the job when it has ended or is paused."""
        while True:
            job = await self.get(job_id, caller)
            resting = job.ended or job.status == "paused"
            run = await self._runner.arrival(job.run_id, 0 if resting else POLL_INTERVAL_S)
            event_number = run.log.last if run is not None else 0
            async for row in self._follow_events(job, after):
                after = row.seq
                yield row
            if resting:
                yield job
                return
            if run is None or run.ended:
                await self._scheduler.wait_for_end(job.run_id)
                # No notification is sent when a job waits in the queue, was resumed, or is run by another
                # daemon, so check again later.
                await asyncio.sleep(POLL_INTERVAL_S)
                continue
            # The run stores its reports before it emits events, so each event is a reason to read the
            # reports.
            async for _number, _event in run.log.follow(event_number):
                async for row in self._follow_events(job, after):
                    after = row.seq
                    yield row

    async def _follow_events(self, job: Job, after: int) -> AsyncGenerator[EventRow, None]:
        while batch := await self._database.read(tuning.following, job.id, after, PAGE_SIZE):
            for row in batch:
                after = row.seq
                yield row

    async def cancel(self, job_id: str, caller: Principal) -> Job:
        """Cancel a job permanently. Raises `Conflict` if it has ended."""
        return await self._end(job_id, caller, "Fine-tuning job cancelled", (*WORKING_STATUSES, "paused"))

    async def revoke(self, owner: str) -> None:
        """Cancel the jobs of a revoked key, except paused jobs."""
        at_once = asyncio.Semaphore(MAX_ENDED_AT_ONCE)

        async def end(job_id: str) -> None:
            async with at_once:
                with suppress(Conflict):  # the job has ended in the meantime
                    await self._end(job_id, SYSTEM, _REVOKED, WORKING_STATUSES)

        async with asyncio.TaskGroup() as tasks:
            for job_id in await self._database.read(tuning.working_of, owner):
                tasks.create_task(end(job_id))

    async def _end(self, job_id: str, caller: Principal, message: str, since: tuple[str, ...]) -> Job:
        job = await self._move(job_id, caller, "cancelled", message, since)
        await self._stop(job)
        await hosted.cancel_there(self._job_context, job)
        await pools.TRAINING.run(shutil.rmtree, self._job_context.folder_of(job.id), ignore_errors=True)
        return await self.get(job_id, caller)

    async def pause(self, job_id: str, caller: Principal) -> Job:
        """Stop a job so that `resume` can continue from its last checkpoint. Raises `Conflict`."""
        known_job = await self.get(job_id, caller)
        if (tuner := self._bases.tuner(known_job.base)) is not None:
            raise Conflict(
                f"The job '{known_job.id}' is trained at {tuner.provider} and cannot be paused; cancel it, "
                "or wait until it ends.",
                code="hosted_model",
                param="fine_tuning_job_id",
            )
        job = await self._move(job_id, caller, "paused", "Fine-tuning job paused", WORKING_STATUSES)
        await self._stop(job)
        return await self.get(job_id, caller)

    async def resume(self, job_id: str, caller: Principal) -> Job:
        """Resume a paused job. Raises `Conflict`, and `TooMany` as in `create`."""
        job = await self.get(job_id, caller)
        if job.status != "paused":
            raise Conflict(
                f"The job '{job.id}' is not paused, but {_words(job.status)}.", param="fine_tuning_job_id"
            )
        event = NewEvent("message", "Fine-tuning job resumed")
        resume = self._scheduler.within_share(FINETUNE_RUN_KIND, caller, tuning.resume)
        if not await self._database.write(resume, job.id, job.run_id, event):
            raise Conflict(f"The job '{job.id}' is still stopping; try again.", param="fine_tuning_job_id")
        self._scheduler.look()
        return await self.get(job_id, caller)

    async def _move(
        self, job_id: str, caller: Principal, status: str, message: str, since: tuple[str, ...]
    ) -> Job:
        job = await self.get(job_id, caller)
        is_moved = await self._database.write(
            tuning.move,
            job.id,
            status,
            since=since,
            events=[NewEvent("message", message)],
            state={"estimated_finish": None},
            has_ended=status == "cancelled",
        )
        if not is_moved:
            raise Conflict(
                f"The job '{job.id}' is already {_words(job.status)}.",
                code="job_ended",
                param="fine_tuning_job_id",
            )
        return job

    async def _stop(self, job: Job) -> None:
        """End the job's run in this daemon or in the queue. If another daemon has the run, that daemon stops at its
        next write.
        """
        run = self._runner.get(job.run_id)
        if run is not None and not run.ended:
            await run.cancel()
            await self._scheduler.wait_for_end(job.run_id)
            return
        error = ErrorBody("The job was stopped before it started.", "server_error", "cancelled")
        await self._database.write(runs.cancel_elsewhere, job.run_id, error.to_json()["error"])

    async def work(self, payload: Mapping[str, Any], context: Context) -> Any:
        """Process a job. The scheduler calls this for each run of a job."""
        run = self._runner.get(context.run)
        # Before the first await, because the queue must see jobs in the order in which the scheduler starts
        # them.
        with self._job_context.queue.place(context.run, SYSTEM.id if run is None else run.owner):
            return await self._work_on(payload, context)

    async def _work_on(self, payload: Mapping[str, Any], context: Context) -> Any:
        row = await self._database.read(tuning.get, str(payload["job"]))
        if row is None:
            raise Unavailable(f"The job '{payload['job']}' no longer exists.", code="fine_tune_not_found")
        if row.status not in WORKING_STATUSES:
            return {"job": row.id, "stopped": True}
        job, judging = Job.of(row), context
        try:
            owner = self._scheduler.principals(row.owner or SYSTEM.id)
        except Forbidden:
            await self._move(row.id, SYSTEM, "cancelled", _REVOKED, WORKING_STATUSES)
            raise
        if (job.spec.grader or job.spec.app or job.spec.store) and isinstance(context, RunContext):
            # Graders, apps and stores name models and code, which must run with the permissions of the job's
            # owner.
            judging = context.on_behalf_of(owner)
        tuner = self._bases.tuner(job.base)
        if tuner is not None:
            self._job_context.queue.leave(context.run)
            return await hosted.HostedWork(self._job_context, job, context, judging, tuner).run()
        return await JobWork(self._job_context, job, context, judging).run()


def _words(status: str) -> str:
    return "checking its files" if status == "validating_files" else status


def _clean(folder: Path, kept_ids: set[str]) -> None:
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name not in kept_ids:
                shutil.rmtree(path, ignore_errors=True)
