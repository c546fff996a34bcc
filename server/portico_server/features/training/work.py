"""The work of one job, in a durable run: check its files, choose its recipe, train, and serve the trained model."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import asdict
from typing import Any, Final

from portico.wire import Progressed
from portico_server.core import pools
from portico_server.core.base_models import BaseModel
from portico_server.core.context import Context
from portico_server.core.errors import PorticoError
from portico_server.core.principal import SYSTEM
from portico_server.db import steps, tuning
from portico_server.db.files import FileRow
from portico_server.db.steps import StepRow
from portico_server.db.tuning import NewEvent
from portico_server.features.training import app_prompts
from portico_server.features.training.job_context import WORKING_STATUSES, JobContext, StoppedError
from portico_server.features.training.job_files import APP_STATE, examine_files
from portico_server.features.training.metrics_table import metrics_table
from portico_server.features.training.recipe_choice import choose_recipe
from portico_server.features.training.samples import compare_answers
from portico_server.features.training.spec import (
    RETRIEVAL_METHODS,
    DataFacts,
    Job,
    PreparedData,
    TrainingRecipe,
)
from portico_server.features.training.training_events import (
    Checkpoint,
    Metrics,
    TrainedWeights,
    TrainEvent,
    TrainingTask,
    TrainLog,
)

MAX_ESTIMATE_UPDATES: Final = 100
"""Approximate maximum number of updates of a job's estimated end."""

FIRST_ESTIMATE_STEPS: Final = 5
"""Number of steps at the start after each of which the estimate is updated."""

CORRECTION_STEPS: Final = 3
"""Number of timed steps after which a delay is reported."""

DELAY_FACTOR: Final = 1.5
MIN_DELAY_S: Final = 30.0
"""A training is delayed if it takes both this many times as long as planned and this many seconds longer."""

EVENT_PAGE_ROWS: Final = 5_000
"""Events read per query."""


class JobWork:
    """One attempt at one job."""

    def __init__(self, place: JobContext, job: Job, context: Context, judging: Context) -> None:
        self._job_context = place
        self._job = job
        self._context = context
        self._judging = judging
        self._folder = place.folder_of(job.id)
        self._began = 0.0
        self._training_since = 0.0
        """The time at which the trainer reported the start of the first step; 0 before the report."""
        self._first_step = 0

    async def run(self) -> Mapping[str, Any]:
        """Run the job from where the last attempt stopped, and return the result of the run."""
        try:
            return await self._work()
        except StoppedError:
            return {"job": self._job.id, "stopped": True}
        except PorticoError as error:
            await self._fail(error)
            raise
        except Exception:
            await self._fail(
                PorticoError(f"An internal error occurred in Portico; see the log of {self._job.run_id}.")
            )
            raise

    async def _work(self) -> Mapping[str, Any]:
        """Train on this machine."""
        base, data, recipe = await self._prepare()
        async with self._job_context.queue.turn(self._context.run):
            event = NewEvent("message", "Fine-tuning job started")
            await self._set_status("running", event, state=self._planned(recipe))
            return await self._train(base, data, recipe)

    async def _set_status(
        self, status: str, *events: NewEvent, state: Mapping[str, Any] | None = None
    ) -> None:
        is_moved = await self._job_context.database.write(
            tuning.move, self._job.id, status, since=WORKING_STATUSES, events=events, state=state
        )
        if not is_moved:
            raise StoppedError

    async def _record_events(self, *events: NewEvent, state: Mapping[str, Any] | None = None) -> None:
        status = await self._job_context.database.write_soon(tuning.note, self._job.id, events, state)
        if status not in WORKING_STATUSES:
            raise StoppedError
        if events:  # reported progress tells clients that follow the job to read its new events
            last = events[-1]
            unit = "" if last.step is None else "steps"
            await self._context.emit(
                Progressed("train", last.message, last.step, last.data.get("total_steps"), unit)
            )

    async def _fail(self, error: PorticoError) -> None:
        body = {"message": error.message, "code": error.code, "param": error.param}
        await self._job_context.database.write(
            tuning.move,
            self._job.id,
            "failed",
            since=WORKING_STATUSES,
            events=[NewEvent("message", error.message, "error")],
            error=body,
            has_ended=True,
        )
        if not (self._folder / "checkpoints").is_dir():
            await pools.TRAINING.run(shutil.rmtree, self._folder, ignore_errors=True)

    async def _prepare(self) -> tuple[BaseModel, PreparedData, TrainingRecipe]:
        """Return the examples and recipe of an earlier attempt, or prepare new ones."""
        job, state = self._job, self._job.state
        if "recipe" in state and (self._folder / "training.jsonl").is_file():
            base = await self._job_context.bases.base(job.base, SYSTEM, task=job.spec.task)
            return base, self._prepared(state["facts"]), TrainingRecipe.from_json(state["recipe"])
        await self._set_status(
            "validating_files",
            NewEvent("message", f"Validating training file: {job.spec.training_file}")
            if job.spec.training_file
            else NewEvent("message", f"Generating questions about the store '{job.spec.store}'"),
        )
        base, data, warnings, app_state = await examine_files(
            self._job_context, job.spec, self._folder, self._context, SYSTEM, self._judging
        )
        facts = data.facts
        recipe = choose_recipe(
            base,
            facts,
            await self._job_context.bases.machine(),
            job.spec.method,
            job.spec.hyperparameters,
            job.spec.overrides,
            seed=job.spec.seed,
            packages=self._job_context.packages,
            resources=self._job_context.scheduled(job.spec),
        )
        words = (
            f"{facts.examples:,} examples, {facts.tokens:,} tokens. {recipe.kind}, {recipe.steps:,} steps of "
            f"{recipe.batch}; about {_lasts(recipe.seconds)} and {recipe.memory_bytes / 1e9:.1f} GB of memory"
        )
        await self._set_status(
            "queued",
            *(NewEvent("message", sentence, "warn") for sentence in warnings),
            NewEvent("message", words, data={"recipe": recipe.to_json()}),
            NewEvent("message", "Files validated, moving job to queued state"),
            state={"facts": asdict(facts), "recipe": recipe.to_json(), APP_STATE: app_state},
        )
        return base, data, recipe

    def _prepared(self, facts: Mapping[str, Any]) -> PreparedData:
        validation = self._folder / "validation.jsonl"
        held_out = validation if validation.is_file() else None
        return PreparedData(self._folder / "training.jsonl", held_out, DataFacts(**facts))

    async def _train(self, base: BaseModel, data: PreparedData, recipe: TrainingRecipe) -> Mapping[str, Any]:
        task = TrainingTask(self._job, base, recipe, data, self._folder)
        trained_weights: TrainedWeights | None = None
        async with aclosing(self._job_context.trainer(base).train(task, self._judging)) as events:
            async for event in events:
                if isinstance(event, TrainedWeights):
                    trained_weights = event
                else:
                    await self._persist(event, recipe)
        if trained_weights is None:
            raise PorticoError("The training ended without a result.", code="no_result")
        return await self._finish(trained_weights, data)

    async def _persist(self, event: TrainEvent, recipe: TrainingRecipe) -> None:
        match event:
            case TrainLog():
                if event.data.get("stage") == "training":
                    self._training_since = time.time()
                await self._record_events(NewEvent("message", event.message, event.level, data=event.data))
            case Metrics():
                await self._record_metrics(event, recipe)
            case Checkpoint():
                await self._record_checkpoint(event)

    async def _record_metrics(self, event: Metrics, recipe: TrainingRecipe) -> None:
        loss = {} if event.loss is None else {"train_loss": event.loss}
        values = {"step": event.step, "total_steps": event.total, **loss, **event.values}
        message = f"Step {event.step}/{event.total}"
        if event.loss is not None:
            message += f": training loss={event.loss:.4f}"
        elif "reward" in event.values:
            message += f": reward={event.values['reward']:.4f}"
        if not self._began:
            # Training repeats the steps after the last checkpoint, so the metrics that an interrupted attempt
            # recorded for those steps are deleted.
            await self._job_context.database.write_soon(tuning.rewind, self._job.id, event.step - 1)
            # The time of this step counts only if the trainer has reported when training started.
            self._began = self._training_since or time.time()
            self._first_step = event.step - (1 if self._training_since else 0)
        await self._record_events(
            NewEvent("metrics", message, step=event.step, data=values),
            *self._correct_plan(event, recipe),
            state=self._estimate(event),
        )

    def _planned(self, recipe: TrainingRecipe) -> Mapping[str, Any]:
        """Return the job's progress and its estimated end, based on the recipe because no step has been timed yet."""
        done_steps = int(self._job.state.get("step") or 0)
        remaining_s = recipe.seconds * (1 - min(done_steps, recipe.steps) / max(1, recipe.steps))
        return {"step": done_steps, "total": recipe.steps, "estimated_finish": time.time() + remaining_s}

    def _estimate(self, event: Metrics) -> Mapping[str, Any] | None:
        """Return the job's progress and estimated end after each of the first steps, later only at intervals;
        otherwise ``None``.
        """
        done_steps = event.step - self._first_step
        if done_steps > FIRST_ESTIMATE_STEPS and event.step % max(1, event.total // MAX_ESTIMATE_UPDATES):
            return None
        if done_steps < 1:
            return {"step": event.step, "total": event.total}
        end = time.time() + (time.time() - self._began) / done_steps * (event.total - event.step)
        return {"step": event.step, "total": event.total, "estimated_finish": end}

    def _correct_plan(self, event: Metrics, recipe: TrainingRecipe) -> list[NewEvent]:
        """Return a message if the first steps show that the training takes much longer than planned."""
        if event.step - self._first_step != CORRECTION_STEPS:
            return []
        words = describe_delay(recipe, (time.time() - self._began) / CORRECTION_STEPS * recipe.steps)
        return [NewEvent("message", words, "warn")] if words else []

    async def _record_checkpoint(self, event: Checkpoint) -> None:
        message = f"Checkpoint created at step {event.step}"
        await self._record_events(
            NewEvent("checkpoint", message, step=event.step, data={"path": event.path.name, **event.values})
        )
        # A completed step counts as progress. A run that makes progress is resumed however often it is
        # interrupted.
        row = StepRow(
            f"checkpoint/{event.step}",
            event.step,
            "checkpoint",
            "completed",
            output="null",
            started_at=time.time(),
        )
        await self._job_context.database.write(
            steps.record, self._context.run, [row], self._job_context.holder
        )

    async def _finish(self, trained_weights: TrainedWeights, data: PreparedData) -> Mapping[str, Any]:
        """Serve the trained model, store its measurements, and clean up."""
        job = self._job
        await self._record_events()
        began = time.monotonic()
        owner = None if job.state.get("shared") else job.owner
        await self._job_context.bases.publish(
            job.model, job.base, trained_weights.path, owner, task=job.spec.task
        )
        seconds = time.monotonic() - began
        file = await self._results()
        await self._set_status(
            "running",
            NewEvent("message", f"New fine-tuned model created: {job.model}", data={"seconds": seconds}),
        )
        await self._serve_checkpoints(trained_weights, owner)
        events = [*_measurement_events(trained_weights.values), *await self._compare_app()]
        if job.spec.method not in RETRIEVAL_METHODS:
            events += await compare_answers(
                data, job.base, job.model, self._judging, has_app=bool(job.spec.app)
            )
        is_moved = await self._job_context.database.write(
            tuning.move,
            job.id,
            "succeeded",
            since=WORKING_STATUSES,
            events=[*events, NewEvent("message", "The job has successfully completed")],
            state={
                "fine_tuned_model": job.model,
                "trained_tokens": trained_weights.tokens,
                "result_files": [file.id],
                "estimated_finish": None,
                "values": dict(trained_weights.values),
            },
            has_ended=True,
        )
        if not is_moved:
            raise StoppedError
        await pools.TRAINING.run(shutil.rmtree, self._folder, ignore_errors=True)
        return {"job": job.id, "model": job.model}

    async def _serve_checkpoints(self, trained_weights: TrainedWeights, owner: str | None) -> None:
        """Serve the kept checkpoints under their own names. A checkpoint that cannot be served does not fail the
        job.
        """
        job, bases = self._job, self._job_context.bases
        await bases.also(job.checkpoint(trained_weights.step), job.model)
        for checkpoint in trained_weights.others:
            try:
                await bases.publish(job.checkpoint(checkpoint.step), job.base, checkpoint.path, owner)
            except PorticoError as error:
                words = f"The checkpoint of step {checkpoint.step} cannot be served: {error.message}"
                await self._record_events(NewEvent("message", words, "warn"))

    async def _compare_app(self) -> list[NewEvent]:
        """Compare the app's prompts with those used in training. Return one event, or none if the job has no app."""
        job, place = self._job, self._job_context
        row = await place.database.read(tuning.get, job.id)
        app_state = row.state.get(APP_STATE) if row is not None else None
        if not app_state or not app_state["examples"]:
            return []
        try:
            app = await app_prompts.find_app(job.spec.app, place.registry, self._judging.caller)
            check = await app_prompts.compare(app, app_state, job.model, place.registry, self._judging)
        except PorticoError as error:
            return [NewEvent("message", f"The app cannot be compared: {error.message}", "warn")]
        words, level = f"'{check.app}' writes the prompts used in training, for '{check.model}'", "info"
        if check.differences:
            words = (
                f"'{check.app}' no longer writes the prompts used in training: {' '.join(check.differences)}"
            )
            level = "warn"
        return [NewEvent("message", words, level, data=asdict(check))]

    async def _results(self) -> FileRow:
        metric_rows: list[Mapping[str, Any]] = []
        after = 0
        while rows := await self._job_context.database.read(
            tuning.following, self._job.id, after, EVENT_PAGE_ROWS
        ):
            metric_rows += [row.data for row in rows if row.kind == "metrics"]
            after = rows[-1].seq
        document = metrics_table(metric_rows)

        async def chunks() -> AsyncIterator[bytes]:
            yield document

        return await self._job_context.files.create(
            "step_metrics.csv", "fine-tune-results", chunks(), SYSTEM, owner=self._job.owner
        )


def _measurement_events(values: Mapping[str, float]) -> list[NewEvent]:
    """Return one event on whether a search model ranks better than its base; no event for other models."""
    if "base_ndcg_10" not in values:
        return []
    words = ", ".join(
        f"{name} {values[f'base_{key}']:.3f} before, {values[key]:.3f} after"
        for name, key in (("nDCG@10", "ndcg_10"), ("recall@5", "recall_5"))
    )
    words = f"On {values['held_back_questions']:.0f} held-back questions: {words}"
    if is_better(values):
        return [NewEvent("message", words, data=dict(values))]
    words += ". It is not better than its base: do not change your stores"
    return [NewEvent("message", words, "warn", data=dict(values))]


def describe_delay(recipe: TrainingRecipe, seconds: float) -> str:
    """Describe how much longer than planned a training takes, given its measured total; empty if it hardly does."""
    if seconds - recipe.seconds < MIN_DELAY_S or seconds < DELAY_FACTOR * recipe.seconds:
        return ""
    return (
        f"The training takes about {_lasts(seconds)} instead of {_lasts(recipe.seconds)}, judging by its first "
        f"{CORRECTION_STEPS} steps. Other work on this machine may slow it down"
    )


def is_better(values: Mapping[str, float]) -> bool:
    """Return whether a search model ranks the held-back questions better than its base, by nDCG@10."""
    return values["ndcg_10"] > values["base_ndcg_10"]


def _lasts(seconds: float) -> str:
    if seconds < 90:
        return f"{max(2, round(seconds))} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
