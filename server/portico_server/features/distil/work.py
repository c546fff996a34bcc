"""The stages of a distillation. The run's journal contains the finished stages, so a resumed run repeats only one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import orjson

from portico.wire import Progressed
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, EngineFailed
from portico_server.core.registry import Registry
from portico_server.core.relay import Relay
from portico_server.core.servable import Relays, relays
from portico_server.db import steps
from portico_server.db.chats import ChatRow
from portico_server.db.database import Database
from portico_server.db.steps import StepRow
from portico_server.feature_table import Features
from portico_server.features.canaries.agreement import agreement
from portico_server.features.canaries.canaries import CanaryService
from portico_server.features.canaries.confidence import confidence, take_logprobs
from portico_server.features.canaries.samples import relayed_answer
from portico_server.features.canaries.spec import CanaryRule, CanarySpec
from portico_server.features.distil.examples import TeacherCall, collect
from portico_server.features.distil.threshold import JudgedCall, choose_threshold, measure
from portico_server.features.stored_chats.stored_chats import StoredChats
from portico_server.features.training.job_context import Uploads
from portico_server.features.training.jobs import FineTuningJobs
from portico_server.features.training.spec import FineTuningSpec, Hyperparameters, Job
from portico_server.models.service import ModelService
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler
from portico_server.runs.usage import UsageLog

JUDGED_RUN_KIND: Final = "distil_judge"
"""Kind of the calls of the small model whose answers are compared with the stored answers."""

DATA: Final = "data"
TRAINING: Final = "training"
JUDGING: Final = "judging"
CANARY: Final = "canary"
STAGES: Final = (DATA, TRAINING, JUDGING, CANARY)
"""The stages, in this order."""

PAGE_SIZE: Final = 200

MAX_CHATS: Final = 5_000
"""Maximum number of stored chats that are read, newest first."""

MAX_ROLLBACK_DROP: Final = 0.05
"""How far the agreement of live answers may fall below the requested agreement before the canary is rolled back."""

CALLS_BEFORE_PROMOTION: Final = 50

MIN_ANSWER_TOKENS: Final = 64
"""Minimum number of tokens that the small model may write when it is judged; otherwise the length of the stored answer
in characters.
"""


@dataclass(frozen=True, slots=True)
class DistillationSpec:
    """What a distillation must achieve: the small model ``onto`` which the answers behind an alias are distilled, the
    minimum ``agreement`` with the larger model, the share of calls that the result gets at first (``weight``), and the
    share of its answers that are then compared with the larger model's (``sample``).
    """

    onto: str
    agreement: float = 0.95
    weight: float = 0.2
    sample: float = 0.05
    hyperparameters: Hyperparameters = Hyperparameters()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DistillationSpec:
        """Create a specification from the JSON form of its fields."""
        return cls(**{**data, "hyperparameters": Hyperparameters(**data["hyperparameters"])})


class DistillationServices(Protocol):
    """The services of the daemon that distillations use."""

    database: Database
    registry: Registry
    runner: Runner
    chats: StoredChats
    files: Uploads
    features: Features
    scheduler: Scheduler
    usage: UsageLog
    models: ModelService


class DistillationWork:
    """One attempt at one distillation. ``holder`` is the daemon that has the run."""

    def __init__(
        self,
        services: DistillationServices,
        alias: str,
        spec: DistillationSpec,
        context: Context,
        holder: str,
    ) -> None:
        self._services = services
        self._canaries = services.features.get("canaries", CanaryService)
        self._alias = alias
        self._spec = spec
        self._context = context
        self._caller = context.caller
        self._holder = holder
        self._outcomes: dict[str, Mapping[str, Any]] = {}

    async def run(self) -> Mapping[str, Any]:
        """Execute the stages that are not finished, and return the outcomes of all stages."""
        rows = await self._services.database.read(steps.finished_steps, self._context.run)
        self._outcomes = {row.path: orjson.loads(row.output or "{}") for row in rows}
        await self._stage(DATA, self._collect)
        await self._stage(TRAINING, self._train)
        await self._stage(JUDGING, self._judge)
        await self._stage(CANARY, self._set_canary)
        return self._outcomes

    async def _stage(self, name: str, work: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        if name in self._outcomes:
            return
        await self._context.emit(Progressed(name))
        began = time.time()
        outcome = await work()
        row = StepRow(
            name,
            len(self._outcomes) + 1,
            "distil",
            "completed",
            output=orjson.dumps(outcome).decode(),
            started_at=began,
            milliseconds=(time.time() - began) * 1e3,
        )
        await self._services.database.write(steps.record, self._context.run, [row], self._holder)
        self._outcomes[name] = outcome

    async def _collect(self) -> Mapping[str, Any]:
        """Turn the stored chats of the alias into a file to train on and a file that is held back."""
        rows: list[ChatRow] = []
        has_more = True
        while has_more and len(rows) < MAX_CHATS:
            page = await self._services.chats.list(
                self._caller,
                model=self._alias,
                metadata={},
                after=rows[-1].id if rows else None,
                limit=PAGE_SIZE,
                order="desc",
            )
            rows += page.data
            has_more = page.has_more
        students = {view.row.target for view in await self._canaries.history(self._alias)}
        calls = await pools.TRAINING.run(collect, self._alias, rows[::-1], students)
        training = await self._store("training", "fine-tune", [call.example() for call in calls.training])
        held_back = await self._store("held-back", "evals", [call.to_json() for call in calls.held_back])
        return {
            "training_file": training,
            "held_back_file": held_back,
            "training": len(calls.training),
            "held_back": len(calls.held_back),
            "omitted": calls.omitted,
        }

    async def _store(self, part: str, purpose: str, lines: Sequence[Mapping[str, Any]]) -> str:
        async def chunks() -> AsyncIterator[bytes]:
            for line in lines:
                yield orjson.dumps(line) + b"\n"

        file = await self._services.files.create(
            f"distil-{self._alias}-{part}.jsonl", purpose, chunks(), self._caller
        )
        return file.id

    async def _train(self) -> Mapping[str, Any]:
        """Train the small model. The metadata of the job lets a resumed run find it again."""
        metadata = {"distillation": self._context.run}
        tuning: FineTuningJobs = await self._services.features.load("training")
        page = await tuning.list(self._caller, limit=1, metadata=metadata)
        if page.data:
            job = page.data[0]
        else:
            spec = FineTuningSpec(
                self._spec.onto,
                str(self._outcomes[DATA]["training_file"]),
                hyperparameters=self._spec.hyperparameters,
                suffix="distil",
                metadata=metadata,
            )
            job = await tuning.create(spec, self._caller)
        async for event in tuning.follow(job.id, self._caller):
            if isinstance(event, Job):
                job = event
            elif event.step is not None:
                total = event.data.get("total_steps")
                await self._context.emit(Progressed(TRAINING, event.message, event.step, total, "steps"))
        if job.status != "succeeded":
            reason = str((job.error or {}).get("message") or f"it is {job.status}")
            raise Conflict(
                f"The fine-tuning job '{job.id}' has no result: {reason}. Start the distillation again.",
                code="training_failed",
                param="onto",
            )
        return {"job": job.id, "model": job.model}

    async def _judge(self) -> Mapping[str, Any]:
        """Compare the small model's answers to the held-back calls with the stored answers, and choose the confidence
        from which it may answer alone.
        """
        calls = await self._read_held_back()
        model = str(self._outcomes[TRAINING]["model"])
        servable = await self._services.registry.resolve(model, self._caller)
        if not relays(servable):
            raise EngineFailed(f"'{model}' is not a model that can be called.")
        judged_calls = []
        for done, call in enumerate(calls):
            await self._context.emit(Progressed(JUDGING, model, done, len(calls), "calls"))
            judged_calls.append(await self._judge_call(servable, model, call))
        choosing, measuring = judged_calls[::2], judged_calls[1::2]
        threshold = choose_threshold(choosing, self._spec.agreement)
        result = None if threshold is None else measure(measuring, threshold)
        if threshold is None or result is None or (result.agreement or 0.0) < self._spec.agreement:
            everywhere = measure(judged_calls, 0.0)
            sure = "" if result is None else f", and {result.agreement or 0:.1%} where it is sure"
            raise Conflict(
                f"'{model}' agrees with {everywhere.agreement or 0:.1%} of the held-back answers{sure}; "
                f"{self._spec.agreement:.1%} is required, so '{self._alias}' stays as it is. Store more chats, train "
                "for more epochs, or distil onto a larger model.",
                code="not_good_enough",
                param="agreement",
            )
        return {
            "min_confidence": threshold,
            "calls": result.calls,
            "local_share": result.local_share,
            "agreement": result.agreement,
        }

    async def _read_held_back(self) -> list[TeacherCall]:
        file = await self._services.files.readable(str(self._outcomes[DATA]["held_back_file"]), self._caller)
        async with self._services.files.open(file.sha256) as path:
            data = await pools.TRAINING.run(path.read_bytes)
        return [TeacherCall(**orjson.loads(line)) for line in data.splitlines()]

    async def _judge_call(self, servable: Relays, model: str, call: TeacherCall) -> JudgedCall:
        body: dict[str, Any] = {
            "model": model,
            "messages": list(call.messages),
            "temperature": 0,
            "logprobs": True,
            "max_completion_tokens": max(MIN_ANSWER_TOKENS, len(call.answer)),
        }
        if call.response_format is not None:
            body["response_format"] = call.response_format
        response = await self._services.runner.relay(
            servable, model, Relay("chat/completions", body), self._caller, kind=JUDGED_RUN_KIND
        )
        data, logprobs = take_logprobs(await response.read(), stream=False)
        answer = relayed_answer(data, stream=False)
        if answer is None:
            raise EngineFailed(f"'{model}' did not return a valid answer.")
        return JudgedCall(confidence(logprobs), agreement(answer["output_text"], call.answer))

    async def _set_canary(self) -> Mapping[str, Any]:
        """Put the small model behind the alias."""
        model = str(self._outcomes[TRAINING]["model"])
        canaries = self._canaries
        # An interrupted attempt may have set the canary.
        view = next((view for view in await canaries.history(self._alias) if view.row.target == model), None)
        if view is None:
            spec = self._spec
            view = await canaries.set(
                self._alias,
                CanarySpec(
                    model,
                    spec.weight,
                    sticky="request",
                    min_confidence=float(self._outcomes[JUDGING]["min_confidence"]),
                    sample=spec.sample,
                    promote=CanaryRule(CALLS_BEFORE_PROMOTION, min_score=spec.agreement),
                    rollback=CanaryRule(
                        CALLS_BEFORE_PROMOTION, min_score=max(0.0, spec.agreement - MAX_ROLLBACK_DROP)
                    ),
                ),
                self._caller,
            )
        return {"canary": view.row.id}
