"""The work of one job in a durable run: check its files, choose its recipe, train, serve the result."""

from __future__ import annotations

import asyncio
import csv
import io
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from portico.wire import Status as Progress
from portico_server.core import pools
from portico_server.core.base_models import BaseModel, BaseModels
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError
from portico_server.core.principal import SYSTEM, Principal
from portico_server.core.registry import Registry
from portico_server.core.training_passages import ReadableStores
from portico_server.db import steps, tuning
from portico_server.db.database import Database
from portico_server.db.files import FileRow
from portico_server.db.steps import StepRow
from portico_server.db.tuning import NewEvent
from portico_server.finetune import app_prompts, data, questions
from portico_server.finetune.data import ModelTokenCounter
from portico_server.finetune.recipe_choice import choose_recipe
from portico_server.finetune.spec import (
    RETRIEVAL_METHODS,
    Checkpoint,
    DataFacts,
    FineTuningSpec,
    Job,
    Metrics,
    PreparedData,
    TrainedWeights,
    Trainer,
    TrainEvent,
    TrainingRecipe,
    TrainingTask,
    TrainLog,
)
from portico_server.launchers.local import LOCAL

# What a job leaves behind beyond its model: the measurements of each step as a table.


METRIC_COLUMNS: Final = (
    *("step", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "reward", "margin", "kl"),
    *("valid_ndcg_10", "valid_recall_5"),
    *("learning_rate", "tokens_per_second", "memory_bytes"),
)


def metrics_table(metrics: Iterable[Mapping[str, Any]]) -> bytes:
    """CSV with a row for each step; cells are empty where a step did not measure."""
    out = io.StringIO()
    writer = csv.DictWriter(out, METRIC_COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(metrics)
    return out.getvalue().encode()


WORKING_STATUSES: Final = ("validating_files", "queued", "running")

MAX_ESTIMATE_UPDATES: Final = 100
"""How often a job's expected end is written down."""

FIRST_ESTIMATE_STEPS: Final = 5
"""Steps after each of which it is written down, whatever their number in all."""

EVENT_PAGE_ROWS: Final = 5_000
"""Events that are read at once."""


class Uploads(Protocol):
    """The files of the daemon, as far as training needs them."""

    async def get(self, file_id: str, caller: Principal) -> FileRow: ...

    def open(self, sha256: str) -> AbstractAsyncContextManager[Path]: ...

    async def create(
        self,
        filename: str,
        purpose: str,
        chunks: AsyncIterator[bytes],
        caller: Principal,
        *,
        expires_at: float | None = None,
        owner: str | None = None,
    ) -> FileRow: ...


class StoppedError(Exception):
    """The job was paused or cancelled while it was worked on."""


class TrainingQueue:
    """Who trains next: one at a time, and the jobs of a key in the order in which their runs began, whichever of them
    has read its files first.
    """

    def __init__(self) -> None:
        self._device = asyncio.Lock()
        self._keys: dict[str, str] = {}
        """By run, the one that began first at the front."""
        self._left = asyncio.Event()

    @contextmanager
    def place(self, run: str, key: str) -> Iterator[None]:
        """The run of a job of ``key`` is in the queue."""
        self._keys[run] = key
        try:
            yield
        finally:
            self.leave(run)

    def leave(self, run: str) -> None:
        """Nobody waits for it: it has ended, or trains nothing here."""
        self._keys.pop(run, None)
        self._left.set()
        self._left = asyncio.Event()

    @asynccontextmanager
    async def turn(self, run: str) -> AsyncIterator[None]:
        """Within it, it trains."""
        while next(other for other, key in self._keys.items() if key == self._keys[run]) != run:
            await self._left.wait()
        async with self._device:
            yield


@dataclass(frozen=True, slots=True)
class JobContext:
    """What the work needs. ``trainer`` gives what trains a base; ``packages`` are the optional ones that it has."""

    database: Database
    registry: Registry
    bases: BaseModels
    files: Uploads
    trainer: Callable[[BaseModel], Trainer]
    folder: Path
    holder: str
    packages: frozenset[str]
    queue: TrainingQueue
    stores: ReadableStores
    poll_s: float = 10.0
    """Seconds between two looks at a job at a provider."""
    launcher: str = LOCAL.name
    """Starts the trainings that name none."""

    def scheduled(self, spec: FineTuningSpec) -> Mapping[str, Any]:
        """What a scheduler is asked for; on this machine there is none."""
        return spec.resources if (spec.launcher or self.launcher) != LOCAL.name else {}

    def folder_of(self, job_id: str) -> Path:
        """The job's own folder."""
        return self.folder / job_id


APP_STATE: Final = "app_prompts"
"""What the state of a job keeps of its app: the ``version``, and ``examples`` to compare with later."""


@asynccontextmanager
async def training_files(
    place: JobContext, spec: FineTuningSpec, folder: Path, context: Context, caller: Principal
) -> AsyncIterator[tuple[Path, Path | None, Mapping[str, Any]]]:
    """The training file and the validation file, as they were uploaded or with the prompts of the app; and what the
    state keeps of the app. ``context`` has the rights of the job's owner, ``caller`` those to the files.
    """
    ids = {"training_file": spec.training_file, "validation_file": spec.validation_file}
    rows = {param: await place.files.get(one, caller) for param, one in ids.items() if one}
    async with AsyncExitStack() as opened:
        paths = {
            param: await opened.enter_async_context(place.files.open(row.sha256))
            for param, row in rows.items()
        }
        state: dict[str, Any] = {}
        if spec.app:
            app = await app_prompts.find_app(spec.app, place.registry, context.caller)
            await pools.TRAINING.run(partial(folder.mkdir, parents=True, exist_ok=True))

            async def report(done: int) -> None:
                await context.emit(Progress("prompts", f"Prompts of '{spec.app}'", done, None, "examples"))

            for param, path in paths.items():
                paths[param] = folder / f"{param}.prompts.jsonl"
                try:
                    examples = await app_prompts.write_prompts(
                        app, spec, path, paths[param], param, place.registry, context, report
                    )
                except FileNotFoundError as error:
                    raise data.content_missing(param) from error
                if param == "training_file":
                    kept = [asdict(example) for example in examples]
                    state = {"version": app_prompts.version_of(app.card), "examples": kept}
        yield paths["training_file"], paths.get("validation_file"), state


async def examine_files(
    place: JobContext,
    spec: FineTuningSpec,
    folder: Path,
    context: Context,
    caller: Principal,
    judging: Context,
) -> tuple[BaseModel, PreparedData, tuple[str, ...], Mapping[str, Any]]:
    """Fetch the base, check the files, and write what training reads into ``folder``; with sentences of warning, and
    what the state keeps of the app. ``judging`` is the context with the rights of the job's owner.
    """

    async def fetched(done: int, total: int | None) -> None:
        await context.emit(Progress("download", spec.base, done, total, "bytes"))

    async def report(done: int, total: int) -> None:
        await context.emit(Progress("validate", "Reading the examples", done, total, "bytes"))

    base = await place.bases.base(spec.base, caller, fetched, task=spec.task)
    if spec.method in RETRIEVAL_METHODS:

        async def told(stage: str, words: str, done: int, total: int) -> None:
            await context.emit(Progress(stage, words, done, total, "questions"))

        async with AsyncExitStack() as opened:
            file = None
            if spec.training_file:
                row = await place.files.get(spec.training_file, caller)
                file = await opened.enter_async_context(place.files.open(row.sha256))
            asked, sentences = await questions.prepare_questions(
                spec, file, folder, place.stores, judging, base.longest, told
            )
        return base, asked, sentences, {}
    async with training_files(place, spec, folder, judging, caller) as (training, validation, kept):
        prepared, warnings = await data.prepare_data(
            spec,
            (training, validation),
            folder,
            ModelTokenCounter(context, base.name),
            base.longest,
            report,
        )
    return base, prepared, warnings, kept


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
        """When the trainer said that the first step begins; 0 if it has not."""
        self._first_step = 0

    async def run(self) -> Mapping[str, Any]:
        """From wherever the last attempt stopped to the end; what the run's result is."""
        try:
            return await self._work()
        except StoppedError:
            return {"job": self._job.id, "stopped": True}
        except PorticoError as error:
            await self._fail(error)
            raise
        except Exception:
            await self._fail(
                PorticoError(f"Something went wrong inside Portico; see the log of {self._job.run_id}.")
            )
            raise

    async def _work(self) -> Mapping[str, Any]:
        """Train here."""
        base, prepared, recipe = await self._prepare()
        async with self._job_context.queue.turn(self._context.run):
            started = NewEvent("message", "Fine-tuning job started")
            await self._set_status("running", started, state=self._planned(recipe))
            return await self._train(base, prepared, recipe)

    async def _set_status(
        self, status: str, *events: NewEvent, state: Mapping[str, Any] | None = None
    ) -> None:
        moved = await self._job_context.database.write(
            tuning.move, self._job.id, status, since=WORKING_STATUSES, events=events, state=state
        )
        if not moved:
            raise StoppedError

    async def _record_events(self, *events: NewEvent, state: Mapping[str, Any] | None = None) -> None:
        status = await self._job_context.database.write_soon(tuning.note, self._job.id, events, state)
        if status not in WORKING_STATUSES:
            raise StoppedError
        if events:  # who follows the job reads what is written when the run reports something
            last = events[-1]
            unit = "" if last.step is None else "steps"
            await self._context.emit(
                Progress("train", last.message, last.step, last.data.get("total_steps"), unit)
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
            ended=True,
        )
        if not (self._folder / "checkpoints").is_dir():
            await pools.TRAINING.run(shutil.rmtree, self._folder, ignore_errors=True)

    # --- before training ---------------------------------------------------------------------------------------

    async def _prepare(self) -> tuple[BaseModel, PreparedData, TrainingRecipe]:
        """Examples and recipe: those of an earlier attempt, or new ones."""
        job, state = self._job, self._job.state
        if "recipe" in state and (self._folder / "training.jsonl").is_file():
            base = await self._job_context.bases.base(job.base, SYSTEM, task=job.spec.task)
            return base, self._prepared(state["facts"]), TrainingRecipe.from_json(state["recipe"])
        await self._set_status(
            "validating_files",
            NewEvent("message", f"Validating training file: {job.spec.training_file}")
            if job.spec.training_file
            else NewEvent("message", f"Making questions about the store '{job.spec.store}'"),
        )
        base, prepared, warnings, kept = await examine_files(
            self._job_context, job.spec, self._folder, self._context, SYSTEM, self._judging
        )
        facts = prepared.facts
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
            state={"facts": asdict(facts), "recipe": recipe.to_json(), APP_STATE: kept},
        )
        return base, prepared, recipe

    def _prepared(self, facts: Mapping[str, Any]) -> PreparedData:
        validation = self._folder / "validation.jsonl"
        held_out = validation if validation.is_file() else None
        return PreparedData(self._folder / "training.jsonl", held_out, DataFacts(**facts))

    # --- training ----------------------------------------------------------------------------------------------

    async def _train(
        self, base: BaseModel, prepared: PreparedData, recipe: TrainingRecipe
    ) -> Mapping[str, Any]:
        task = TrainingTask(self._job, base, recipe, prepared, self._folder)
        trained: TrainedWeights | None = None
        async with aclosing(self._job_context.trainer(base).train(task, self._judging)) as events:
            async for event in events:
                if isinstance(event, TrainedWeights):
                    trained = event
                else:
                    await self._persist(event)
        if trained is None:
            raise PorticoError("The training ended without a result.", code="no_result")
        return await self._finish(trained)

    async def _persist(self, event: TrainEvent) -> None:
        match event:
            case TrainLog():
                if event.data.get("stage") == "training":
                    self._training_since = time.time()
                await self._record_events(NewEvent("message", event.message, event.level, data=event.data))
            case Metrics():
                await self._record_metrics(event)
            case Checkpoint():
                await self._record_checkpoint(event)

    async def _record_metrics(self, event: Metrics) -> None:
        loss = {} if event.loss is None else {"train_loss": event.loss}
        values = {"step": event.step, "total_steps": event.total, **loss, **event.values}
        message = f"Step {event.step}/{event.total}"
        if event.loss is not None:
            message += f": training loss={event.loss:.4f}"
        elif "reward" in event.values:
            message += f": reward={event.values['reward']:.4f}"
        if not self._began:
            # What an attempt that was cut off did behind its last checkpoint is done again.
            await self._job_context.database.write_soon(tuning.rewind, self._job.id, event.step - 1)
            # Where the trainer has said when its first step began, that one is measured too.
            self._began = self._training_since or time.time()
            self._first_step = event.step - (1 if self._training_since else 0)
        await self._record_events(
            NewEvent("metrics", message, step=event.step, data=values), state=self._estimate(event)
        )

    def _planned(self, recipe: TrainingRecipe) -> Mapping[str, Any]:
        """How far it is and when it will be done by the recipe, until steps were measured."""
        done = int(self._job.state.get("step") or 0)
        left = recipe.seconds * (1 - min(done, recipe.steps) / max(1, recipe.steps))
        return {"step": done, "total": recipe.steps, "estimated_finish": time.time() + left}

    def _estimate(self, event: Metrics) -> Mapping[str, Any] | None:
        """How far it is and when it will be done: after each of the first steps, then now and then."""
        done = event.step - self._first_step
        if done > FIRST_ESTIMATE_STEPS and event.step % max(1, event.total // MAX_ESTIMATE_UPDATES):
            return None
        if done < 1:
            return {"step": event.step, "total": event.total}
        end = time.time() + (time.time() - self._began) / done * (event.total - event.step)
        return {"step": event.step, "total": event.total, "estimated_finish": end}

    async def _record_checkpoint(self, event: Checkpoint) -> None:
        message = f"Checkpoint created at step {event.step}"
        await self._record_events(
            NewEvent("checkpoint", message, step=event.step, data={"path": event.path.name, **event.values})
        )
        # A run that got further is taken up again as often as it is cut off.
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

    # --- after training ----------------------------------------------------------------------------------------

    async def _finish(self, trained: TrainedWeights) -> Mapping[str, Any]:
        """Serve the result, keep its measurements, clear up."""
        job = self._job
        await self._record_events()
        began = time.monotonic()
        owner = None if job.state.get("shared") else job.owner
        await self._job_context.bases.publish(job.model, job.base, trained.path, owner, task=job.spec.task)
        seconds = time.monotonic() - began
        file = await self._results()
        await self._set_status(
            "running",
            NewEvent("message", f"New fine-tuned model created: {job.model}", data={"seconds": seconds}),
        )
        await self._serve_checkpoints(trained, owner)
        compared = [*_measured(trained.values), *await self._compare_app()]
        moved = await self._job_context.database.write(
            tuning.move,
            job.id,
            "succeeded",
            since=WORKING_STATUSES,
            events=[*compared, NewEvent("message", "The job has successfully completed")],
            state={
                "fine_tuned_model": job.model,
                "trained_tokens": trained.tokens,
                "result_files": [file.id],
                "estimated_finish": None,
                "values": dict(trained.values),
            },
            ended=True,
        )
        if not moved:
            raise StoppedError
        await pools.TRAINING.run(shutil.rmtree, self._folder, ignore_errors=True)
        return {"job": job.id, "model": job.model}

    async def _serve_checkpoints(self, trained: TrainedWeights, owner: str | None) -> None:
        """Let the checkpoints that were kept be called by their names. The result is there without them."""
        job, bases = self._job, self._job_context.bases
        await bases.also(job.checkpoint(trained.step), job.model)
        for other in trained.others:
            try:
                await bases.publish(job.checkpoint(other.step), job.base, other.path, owner)
            except PorticoError as error:
                words = f"The checkpoint of step {other.step} is not served: {error.message}"
                await self._record_events(NewEvent("message", words, "warn"))

    async def _compare_app(self) -> list[NewEvent]:
        """An event that says whether the app still writes the prompts that were trained on; none without an app."""
        job, place = self._job, self._job_context
        row = await place.database.read(tuning.get, job.id)
        kept = row.state.get(APP_STATE) if row is not None else None
        if not kept or not kept["examples"]:
            return []
        try:
            app = await app_prompts.find_app(job.spec.app, place.registry, self._judging.caller)
            check = await app_prompts.compare(app, kept, job.model, place.registry, self._judging)
        except PorticoError as error:
            return [NewEvent("message", f"The app cannot be compared: {error.message}", "warn")]
        words, level = f"'{check.app}' writes the prompts that were trained on, for '{check.model}'", "info"
        if check.differences:
            words = f"'{check.app}' no longer writes the prompts that were trained on: {' '.join(check.differences)}"
            level = "warn"
        return [NewEvent("message", words, level, data=asdict(check))]

    async def _results(self) -> FileRow:
        found: list[Mapping[str, Any]] = []
        after = 0
        while rows := await self._job_context.database.read(
            tuning.following, self._job.id, after, EVENT_PAGE_ROWS
        ):
            found += [row.data for row in rows if row.kind == "metrics"]
            after = rows[-1].seq
        document = metrics_table(found)

        async def chunks() -> AsyncIterator[bytes]:
            yield document

        return await self._job_context.files.create(
            "step_metrics.csv", "fine-tune-results", chunks(), SYSTEM, owner=self._job.owner
        )


def _measured(values: Mapping[str, float]) -> list[NewEvent]:
    """An event that says whether a model for search finds more than its base; none for other models."""
    if "base_ndcg_10" not in values:
        return []
    words = ", ".join(
        f"{name} {values[f'base_{key}']:.3f} before, {values[key]:.3f} after"
        for name, key in (("nDCG@10", "ndcg_10"), ("recall@5", "recall_5"))
    )
    words = f"On {values['held_back_questions']:.0f} questions that were held back: {words}"
    if is_better(values):
        return [NewEvent("message", words, data=dict(values))]
    words += ". It is not better than its base: leave your stores as they are"
    return [NewEvent("message", words, "warn", data=dict(values))]


def is_better(values: Mapping[str, float]) -> bool:
    """Whether a model for search ranks the questions that were held back better than its base, by nDCG@10."""
    return values["ndcg_10"] > values["base_ndcg_10"]


def _lasts(seconds: float) -> str:
    if seconds < 90:
        return f"{max(2, round(seconds))} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
