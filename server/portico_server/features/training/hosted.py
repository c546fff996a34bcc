"""The work of a job whose base model is at a provider: convert and upload the files, mirror the provider's events, and
serve the trained model.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from portico.wire import Progressed
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError, Unavailable
from portico_server.core.hosted_tuning import (
    GONE,
    KEY_REFUSED,
    HostedEvent,
    HostedJob,
    HostedOrder,
    HostedTuner,
)
from portico_server.core.principal import SYSTEM
from portico_server.core.request import Message
from portico_server.db import steps, tuning
from portico_server.db.steps import StepRow
from portico_server.db.tuning import NewEvent
from portico_server.features.training import data
from portico_server.features.training.job_context import WORKING_STATUSES, JobContext, StoppedError
from portico_server.features.training.job_files import APP_STATE, training_files
from portico_server.features.training.spec import FineTuningSpec, Job, PreparedData
from portico_server.features.training.token_counts import CHARS_PER_TOKEN
from portico_server.features.training.work import JobWork

T = TypeVar("T")

FILE_STATE: Final = "hosted_files"
JOB_STATE: Final = "hosted_job"
CURSOR_STATE: Final = "hosted_cursor"
"""Field of a job's state: the cursor of the provider's last mirrored event. `FILE_STATE` names the field for the
provider's file ids, and `JOB_STATE` the field for its job id.
"""

MAX_OUTAGE_S: Final = 3600.0
"""Seconds during which calls to an unavailable provider are retried, except while a job runs there."""

MAX_SILENCE_S: Final = 24 * 3600.0
"""Maximum seconds for which a job that runs at the provider may be unreachable."""

MAX_DEPLOYMENT_S: Final = 6 * 3600.0
"""Maximum seconds until a trained model is ready at the provider."""

MAX_PAUSE_S: Final = 60.0
"""Maximum seconds between two attempts to reach the provider."""

MAX_MISSES: Final = 3
"""Number of consecutive answers that a job does not exist after which the job is considered lost."""

MAX_MESSAGE_CHARS: Final = 2_000
"""Maximum length of a provider's event, in characters."""

CANCEL_TIMEOUT_S: Final = 30.0
"""Maximum seconds to wait while a provider cancels a job."""

TOKENS_PRICED: Final = 1_000_000
"""Number of training tokens to which the provider's price refers."""


def check(spec: FineTuningSpec, tuner: HostedTuner) -> None:
    """Raise `InvalidRequest` if the provider does not support the specification."""
    at = tuner.provider
    if tuner.missing:
        raise InvalidRequest(tuner.missing, code="missing_provider_key", param="model")
    for name, given_value in (
        ("recipe", spec.overrides),
        ("launcher", spec.launcher),
        ("resources", spec.resources),
    ):
        if given_value:
            raise InvalidRequest(
                f"'{spec.base}' is trained at {at}, which sets this value itself; leave '{name}' out.",
                code="hosted_model",
                param=name,
            )
    if spec.method not in tuner.methods:
        raise InvalidRequest(
            f"'{at}' supports training with {' and '.join(tuner.methods)}, not with {spec.method}.",
            code="unsupported_method",
            param="method.type",
        )
    numbers = {name for name, value in asdict(spec.hyperparameters).items() if value is not None}
    numbers |= {"validation_file"} if spec.validation_file else set()
    for name in sorted(numbers - tuner.takes):
        accepted_settings = (
            f"It takes {', '.join(sorted(tuner.takes))}." if tuner.takes else "It sets all of them itself."
        )
        raise InvalidRequest(
            f"'{at}' does not support '{name}'; leave it out. {accepted_settings}",
            code="unsupported_parameter",
            param=name,
        )


class _EstimatedTokens:
    """A `TokenCounter` that estimates, for models whose tokenizer is not available."""

    async def length(self, messages: Sequence[Message], tools: Sequence[object], *, generation: bool) -> int:
        return len(orjson.dumps([list(messages), list(tools)])) // CHARS_PER_TOKEN

    async def is_token(self, text: str) -> bool:
        return False


class HostedWork(JobWork):
    """One attempt at one job at a provider. It continues from what earlier attempts have done there."""

    def __init__(
        self, place: JobContext, job: Job, context: Context, judging: Context, tuner: HostedTuner
    ) -> None:
        super().__init__(place, job, context, judging)
        self._tuner = tuner
        self._step = int(job.state.get("step") or 0)
        self._cursor = str(job.state.get(CURSOR_STATE) or "")

    async def _work(self) -> Mapping[str, Any]:
        job_id = self._job.state.get(JOB_STATE)
        return await self._mirror(str(job_id) if job_id else await self._begin())

    async def _note_progress(self, name: str) -> None:
        """Record progress: an attempt that has made progress is resumed no matter how often it is interrupted."""
        row = StepRow(f"hosted/{name}", 0, "hosted", "completed", output="null", started_at=time.time())
        place = self._job_context
        await place.database.write(steps.record, self._context.run, [row], place.holder)

    async def _begin(self) -> str:
        """Start the job at the provider, unless an earlier attempt has started it; return its id there."""
        job, tuner = self._job, self._tuner
        files = await self._send_files()
        await self._set_status("queued", NewEvent("message", "Files validated, moving job to queued state"))
        numbers = job.spec.hyperparameters
        order = HostedOrder(
            key=job.id,
            method=job.spec.method,
            training=files["training_file"],
            validation=files.get("validation_file"),
            suffix=job.spec.suffix,
            seed=job.spec.seed,
            n_epochs=numbers.n_epochs,
            batch_size=numbers.batch_size,
            learning_rate_multiplier=numbers.learning_rate_multiplier,
            beta=numbers.beta,
        )

        async def begin_job() -> HostedJob:
            # An interrupted attempt may have started the job already, or the answer to its request may have
            # been lost.
            return await tuner.find(job.id, order.training) or await self._created(order)

        hosted_job = await self._patiently(begin_job)
        words = f"The job is '{hosted_job.id}' at {tuner.provider}"
        event = NewEvent("message", words, data={"provider": tuner.provider, "job": hosted_job.id})
        await self._record_events(event, state={JOB_STATE: hosted_job.id})
        await self._note_progress("begun")
        return hosted_job.id

    async def _created(self, order: HostedOrder) -> HostedJob:
        """Start the job at the provider. If the caller is cancelled, still wait for the answer, which contains the id
        needed to cancel the job.
        """
        task = asyncio.ensure_future(self._tuner.create(order))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            with suppress(PorticoError, StoppedError):
                hosted_job = await task
                await self._record_events(state={JOB_STATE: hosted_job.id})
            raise

    async def _send_files(self) -> Mapping[str, str]:
        """Check, convert and upload the files; return the provider's file ids, keyed by parameter."""
        job, tuner = self._job, self._tuner
        prepared_data = await self._examined()
        given_paths = {"training_file": prepared_data.training, "validation_file": prepared_data.validation}
        paths = {param: path for param, path in given_paths.items() if path is not None}
        sent_files = {str(param): str(name) for param, name in (job.state.get(FILE_STATE) or {}).items()}
        for param, path in paths.items():
            if param in sent_files:
                continue
            target = path.with_name(f"{param}.hosted.jsonl")
            await pools.TRAINING.run(_convert, path, target, tuner, job.spec.method, param)
            await self._context.emit(Progressed("upload", f"Sending the {param.replace('_', ' ')}"))

            async def upload(target: Path = target, name: str = f"{job.id}-{param}.jsonl") -> str:
                return await tuner.upload(target, name)

            sent_files[param] = await self._patiently(upload)
            words = f"The {param.replace('_', ' ')} is '{sent_files[param]}' at {tuner.provider}"
            await self._record_events(NewEvent("message", words), state={FILE_STATE: dict(sent_files)})
            await self._note_progress(param)
        return sent_files

    async def _examined(self) -> PreparedData:
        """Return the checked examples. If an earlier attempt has checked them, they are not checked again."""
        job, place = self._job, self._job_context
        if "facts" in job.state and (self._folder / "training.jsonl").is_file():
            return self._prepared(job.state["facts"])
        event = NewEvent("message", f"Validating training file: {job.spec.training_file}")
        await self._set_status("validating_files", event)
        files = training_files(place, job.spec, self._folder, self._judging, SYSTEM)
        async with files as (training, validation, app_state):
            prepared_data, warnings = await data.prepare_data(
                job.spec, (training, validation), self._folder, _EstimatedTokens(), 0
            )
        facts = prepared_data.facts
        words = f"{facts.examples:,} examples, about {facts.tokens:,} tokens, for {self._tuner.provider}"
        await self._record_events(
            *(NewEvent("message", sentence, "warn") for sentence in warnings),
            NewEvent("message", words),
            state={"facts": asdict(facts), APP_STATE: app_state},
        )
        return prepared_data

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of a call. If the provider is unavailable, retry for up to `MAX_OUTAGE_S`."""
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + MAX_OUTAGE_S, self._job_context.poll_s
        while True:
            try:
                return await call()
            except (EngineFailed, Unavailable) as error:
                if loop.time() + pause > until or error.code == "deployment_failed":
                    raise
                await self._context.emit(Progressed("wait", error.message))
            await asyncio.sleep(pause)
            await (
                self._record_events()
            )  # raises an error if another daemon has cancelled the job in the meantime
            pause = min(2 * pause, MAX_PAUSE_S)

    async def _mirror(self, job_id: str) -> Mapping[str, Any]:
        """Mirror the provider's events until the job has ended there; return the result of the durable run."""
        loop = asyncio.get_running_loop()
        reached_at, is_away, misses, running = loop.time(), False, 0, False
        while True:
            try:
                hosted_job = await self._tuner.get(job_id)
                events = await self._tuner.events(job_id, self._cursor)
            except (EngineFailed, Unavailable, InvalidRequest) as error:
                misses = misses + 1 if error.code == GONE else 0
                self._judge(error, job_id, misses, loop.time() - reached_at)
                if not is_away:
                    is_away = True
                    words = f"{error.message} The job continues there and will be polled again."
                    await self._record_events(NewEvent("message", words, "warn"))
                await asyncio.sleep(min(10 * self._job_context.poll_s, MAX_PAUSE_S))
                await self._record_events()
                # The operator may have corrected the provider's key or address.
                self._tuner = self._job_context.bases.tuner(self._job.base) or self._tuner
                continue
            reached_at, is_away, misses = loop.time(), False, 0
            if not running and hosted_job.status not in ("queued", "cancelled"):
                running = True
                await self._set_status("running", NewEvent("message", "Fine-tuning job started"))
            for event in events:
                await self._record(event)
            if events:
                await self._note_progress(self._cursor)
            elif hosted_job.status in ("succeeded", "failed", "cancelled"):
                return await self._end_job(hosted_job)
            else:
                state = {} if hosted_job.ends_at is None else {"estimated_finish": hosted_job.ends_at}
                await self._record_events(
                    state=state
                )  # raises an error if the job was cancelled in the meantime
            await asyncio.sleep(self._job_context.poll_s)

    def _judge(self, error: PorticoError, job_id: str, misses: int, silent_s: float) -> None:
        """Raise an error if the job must end because of ``error``; return if requesting its status can continue."""
        provider = self._tuner.provider
        if misses >= MAX_MISSES:
            raise EngineFailed(
                f"The job '{job_id}' no longer exists at {provider}: {error.message}. Its result cannot be "
                "found; start a new job.",
                code="hosted_job_gone",
            ) from error
        passing = isinstance(error, EngineFailed | Unavailable) or error.code in (GONE, KEY_REFUSED)
        if not passing or silent_s > MAX_SILENCE_S:
            raise EngineFailed(
                f"The status of the job '{job_id}' is unavailable at {provider}: {error.message}. The job "
                "may still be running.",
                code="hosted_job_lost",
            ) from error

    async def _record(self, event: HostedEvent) -> None:
        """Store a provider's event and its cursor in one transaction."""
        self._cursor = event.cursor
        state: dict[str, Any] = {CURSOR_STATE: event.cursor}
        message = event.message[:MAX_MESSAGE_CHARS]
        if not event.values:
            await self._record_events(NewEvent("message", message, event.level), state=state)
            return
        self._step = self._step + 1 if event.step is None else event.step
        state |= {"step": self._step, **({"total": event.total} if event.total else {})}
        total = {"total_steps": event.total} if event.total else {}
        values = {"step": self._step, **total, **event.values}
        message = message or f"Step {self._step}"
        await self._record_events(NewEvent("metrics", message, step=self._step, data=values), state=state)

    async def _end_job(self, hosted_job: HostedJob) -> Mapping[str, Any]:
        job, tuner = self._job, self._tuner
        if hosted_job.status == "failed":
            words = hosted_job.error or "no reason given"
            raise EngineFailed(
                f"The job '{hosted_job.id}' failed at {tuner.provider}: {words}", code="training_failed"
            )
        if hosted_job.status == "cancelled":
            event = NewEvent("message", f"The job was cancelled at {tuner.provider}", "warn")
            await self._job_context.database.write(
                tuning.move, job.id, "cancelled", since=WORKING_STATUSES, events=[event], has_ended=True
            )
            raise StoppedError
        if not hosted_job.model:
            raise EngineFailed(
                f"The job '{hosted_job.id}' succeeded at {tuner.provider}, but the provider named no model.",
                code="no_result",
            )
        return await self._publish(hosted_job, await self._deployed(hosted_job.model))

    async def _deployed(self, model: str) -> str:
        """Return the provider's name of the trained model when the model answers."""
        loop, tuner = asyncio.get_running_loop(), self._tuner
        until, is_announced = loop.time() + MAX_DEPLOYMENT_S, False
        try:
            while (name := await self._patiently(lambda: tuner.serve(model))) is None:
                if not is_announced:
                    is_announced = True
                    await self._record_events(NewEvent("message", f"{tuner.provider} is deploying '{model}'"))
                if loop.time() > until:
                    raise EngineFailed(
                        "The model is still not ready after several hours.", code="deployment_failed"
                    )
                await asyncio.sleep(self._job_context.poll_s)
                await self._record_events()
        except (EngineFailed, Unavailable, InvalidRequest) as error:
            raise EngineFailed(
                f"The training succeeded, but '{model}' does not answer at {tuner.provider}: {error.message} "
                "Deploy the model there, then add a model whose source is the name it has there.",
                code="deployment_failed",
            ) from error
        return name

    async def _publish(self, hosted_job: HostedJob, name: str) -> Mapping[str, Any]:
        """Add the trained model as a model that the provider serves."""
        job, place = self._job, self._job_context
        owner = None if job.state.get("shared") else job.owner
        await place.bases.publish_hosted(job.model, job.base, name, owner)
        file = await self._results()
        price, tokens, events = self._tuner.price, hosted_job.tokens, await self._compare_app()
        is_moved = await place.database.write(
            tuning.move,
            job.id,
            "succeeded",
            since=WORKING_STATUSES,
            events=[
                NewEvent("message", f"New fine-tuned model created: {job.model}", data={"there": name}),
                *events,
                NewEvent("message", "The job has successfully completed"),
            ],
            state={
                "fine_tuned_model": job.model,
                "trained_tokens": tokens,
                "cost": None if price is None or tokens is None else price * tokens / TOKENS_PRICED,
                "result_files": [file.id],
                "estimated_finish": None,
            },
            has_ended=True,
        )
        if not is_moved:
            raise StoppedError
        await pools.TRAINING.run(shutil.rmtree, self._folder, ignore_errors=True)
        return {"job": job.id, "model": job.model}


async def cancel_there(place: JobContext, job: Job) -> None:
    """Cancel a job at its provider too. A failure only becomes an event, because the local job has already ended."""
    tuner = place.bases.tuner(job.base)
    row = await place.database.read(tuning.get, job.id)
    state = row.state if row is not None else {}
    job_id, file = state.get(JOB_STATE), (state.get(FILE_STATE) or {}).get("training_file")
    if tuner is None or not (job_id or file):
        return
    try:
        async with asyncio.timeout(CANCEL_TIMEOUT_S):
            if (
                not job_id
            ):  # the answer to the request that started the job may have been lost together with the run
                hosted_job = await tuner.find(job.id, str(file))
                job_id = hosted_job.id if hosted_job is not None else None
            if job_id:
                await tuner.cancel(str(job_id))
    except (PorticoError, TimeoutError) as error:
        reason = error.message if isinstance(error, PorticoError) else "it does not respond"
        words = f"The job could not be cancelled at {tuner.provider}: {reason}. Cancel the job there."
        await place.database.write(tuning.note, job.id, [NewEvent("message", words, "error")])


def _convert(source: Path, target: Path, tuner: HostedTuner, method: str, param: str) -> None:
    """Convert the examples to the provider's format. Raises `InvalidRequest` that names the invalid example. Blocks."""
    with source.open("rb") as lines, target.open("wb") as out:
        for number, line in enumerate(lines, 1):
            try:
                provider_line = tuner.line(orjson.loads(line), method)
            except InvalidRequest as error:
                raise InvalidRequest(
                    f"Example {number:,}: {error.message}", code=f"invalid_{param}", param=param
                ) from error
            out.write(orjson.dumps(provider_line) + b"\n")
