"""The work of one run: process its remaining items, judge the answers, and store each result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from functools import partial
from typing import Any, Final

from portico.wire import Event, Usage
from portico_server.core.context import Context, ContextWithin, Listener
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, PorticoError, TooMany, Unavailable
from portico_server.core.principal import Principal
from portico_server.core.question import GivenAnswer, NewQuestion
from portico_server.core.registry import Registry
from portico_server.core.request import Request, Result
from portico_server.core.servable import Servable
from portico_server.core.work_slots import FairSlots
from portico_server.db import evals as rows
from portico_server.db import steps
from portico_server.db.evals import EvalRunRow, ItemRow, OutputRow, Verdict
from portico_server.db.steps import StepRow
from portico_server.features.evals import criteria, statistics
from portico_server.features.evals.criteria import RETRIEVAL, Criterion, as_template
from portico_server.features.evals.sample import Sample, sample
from portico_server.features.evals.source import DataSource
from portico_server.features.evals.spec import WORKING, EvalServices, Progress
from portico_server.features.grading.grade import Grading, ModelAnswer
from portico_server.runs.run import BEHIND, MAX_DEPTH

# The context of the evaluated object: it has no listeners, cannot ask people questions, and can replace some
# apps. A durable flow keeps no separate journal here, because the evaluation itself resumes after a crash.


RETRY_TIMEOUT_S: Final = 300.0
"""Seconds during which a call is repeated if a queue or quota is full."""

MAX_RETRY_S: Final = 30.0
"""Maximum seconds between two attempts."""

MAX_RETRIES: Final = 2
"""Maximum number of retries after a failure of the engine or the daemon."""

FINAL: Final = frozenset({"nobody_to_ask", "disk_full"})
"""Codes of errors that a retry cannot fix."""


class EvalContext(ContextWithin):
    """A `portico_server.core.context.Context` that wraps another. ``instead`` maps apps to their replacements.

    A call waits if a queue is full, because no client waits for the answer of an item.
    """

    __slots__ = ("_depth", "_instead", "_listener", "_registry")

    def __init__(
        self,
        outer: Context,
        registry: Registry,
        instead: Mapping[str, Servable],
        listener: Listener | None = None,
        depth: int = 0,
    ) -> None:
        super().__init__(outer)
        self._registry = registry
        self._instead = instead
        self._listener = listener
        self._depth = depth

    async def emit(self, event: Event) -> None:
        if self._listener is not None:
            await self._listener(event)

    async def call(self, name: str, request: Request, *, listener: Listener | None = None) -> Result:
        if self._depth >= MAX_DEPTH:
            raise InvalidRequest(
                f"'{name}' was called {MAX_DEPTH} levels deep; it probably calls itself.", code="too_deep"
            )
        target_name = self._registry.aliases.get(name, name)
        servable = self._instead.get(target_name) or await self._registry.resolve(name, self.caller)
        child = EvalContext(self._outer, self._registry, self._instead, listener, self._depth + 1)
        return await self._patiently(servable, request, child)

    async def _patiently(self, servable: Servable, request: Request, child: EvalContext) -> Result:
        """Make a call. Repeat it if a queue or quota is full, or after a server error. Raises the last error."""
        until = asyncio.get_running_loop().time() + RETRY_TIMEOUT_S
        pause, failure_count = 0.5, 0
        while True:
            try:
                return await servable.call(request, child)
            except TooMany as error:
                wait = min(max(error.retry_after or pause, pause), MAX_RETRY_S)
                if asyncio.get_running_loop().time() + wait > until:
                    raise
            except PorticoError as error:
                failure_count += 1
                # A failed call at a deeper level was already repeated there, or is handled by its caller.
                if self._depth or failure_count > MAX_RETRIES or error.status < 500 or error.code in FINAL:
                    raise
                wait = min(error.retry_after or pause, MAX_RETRY_S)
            await asyncio.sleep(wait)
            pause = min(pause * 2, MAX_RETRY_S)

    async def ask(self, question: NewQuestion) -> GivenAnswer:
        if question.kind == "function":
            return await self._outer.ask(question)
        raise Unavailable(
            f"'{question.name}' asks a person, which an evaluation cannot do. Evaluate an app without that "
            "step, or a tool that needs no approval.",
            code="nobody_to_ask",
        )


KIND: Final = "eval"
"""The run kind of evaluations, and the operation under which their calls are counted."""


class EndedError(Exception):
    """The run was cancelled elsewhere, perhaps through another daemon."""


@dataclass(slots=True)
class ItemResult:
    """The result of an item."""

    status: Verdict
    score: float
    results: list[dict[str, Any]]
    document: Mapping[str, Any]
    spent: list[tuple[str, Usage]] = field(default_factory=list)


Replacements = Callable[[ItemRow], Mapping[str, Servable]]
"""Returns what is called for an item instead of the named models, stores and apps."""


def _no_replacements(_item: ItemRow) -> Mapping[str, Servable]:
    return {}


class ItemWork:
    """Processes and judges one item at a time, on behalf of the key ``owner``."""

    def __init__(
        self,
        services: EvalServices,
        owner: str,
        source: DataSource,
        criteria: Sequence[Criterion],
        instead: Replacements = _no_replacements,
    ) -> None:
        self._services = services
        self._owner = owner
        self._source = source
        self._criteria = criteria
        self._instead = instead

    async def outcome(self, item: ItemRow, context: Context | None = None) -> ItemResult:
        """Return the result of an item. The item runs as a separate call, which counts against the owner's limits. If
        no model is called and ``context`` is given, the item runs within that context instead.
        """
        services = self._services
        caller = services.scheduler.principals(self._owner)
        name = self._source.target or next(iter(self._judges()), "")

        async def work(within: Context) -> ItemResult:
            outcome = await self._judge(item, within)
            for _name, usage in outcome.spent:
                await within.emit(usage)
            return outcome

        if not name and context is not None:
            return await self._judge(item, context)  # nothing to count
        try:
            run = await self._begin(name or KIND, caller, work)
            item_result: ItemResult = await services.runner.wait(run)
            return item_result
        except PorticoError as error:
            return self._failure(error)

    def _judges(self) -> Sequence[str]:
        return [str(criterion.grader["model"]) for criterion in self._criteria if "model" in criterion.grader]

    async def _begin(self, name: str, caller: Principal, work: Any) -> Any:
        """Start a call as soon as the limits of its key and its app allow it. Raises `TooMany` if this takes too
        long.
        """
        runner = self._services.runner
        until = asyncio.get_running_loop().time() + RETRY_TIMEOUT_S
        pause = 0.5
        while True:
            try:
                with await runner.admitted(name, caller) as admission:
                    run = await runner.begin(KIND, name, caller, work)
                    admission.follow(run)
                return run
            except TooMany as error:
                wait = min(max(error.retry_after or pause, pause), MAX_RETRY_S)
                if asyncio.get_running_loop().time() + wait > until:
                    raise
            await asyncio.sleep(wait)
            pause = min(pause * 2, MAX_RETRY_S)

    async def _judge(self, item: ItemRow, context: Context) -> ItemResult:
        answering = EvalContext(context, self._services.registry, self._instead(item))
        try:
            new_sample = await sample(self._source, item, answering, self._services.filters)
        except PorticoError as error:
            return self._failure(error)
        model_usages = [(new_sample.model, new_sample.usage)] if new_sample.model else []
        # Judges are always the daemon's own models, even if a trial replaces apps.
        judging = EvalContext(context, self._services.registry, {})
        results = [
            await self._result(criterion, new_sample, judging, model_usages) for criterion in self._criteria
        ]
        if any("error" in result for result in results):
            status: Verdict = "error"
        else:
            status = "pass" if all(result["passed"] for result in results) else "fail"
        return ItemResult(status, self._score(results), results, new_sample.document, model_usages)

    def _score(self, results: Sequence[Mapping[str, Any]]) -> float:
        """Return the mean of the criteria's scores, each as a share of its range."""
        shares = [
            criterion.share(result["score"])
            for criterion, result in zip(self._criteria, results, strict=True)
        ]
        return sum(shares) / len(shares)

    async def _result(
        self,
        criterion: Criterion,
        new_sample: Sample,
        context: Context,
        model_usages: list[tuple[str, Usage]],
    ) -> dict[str, Any]:
        result: dict[str, Any] = {"name": criterion.name, "type": str(criterion.grader["type"])}
        try:
            if criterion.grader["type"] == RETRIEVAL:
                score = _rank_score(criterion.grader, new_sample.answer)
                return {**result, "score": score, "passed": score >= criterion.threshold}
            grading = Grading(
                criterion.grader,
                self._services.light,
                context,
                lambda name, usage: model_usages.append((name, usage)),
            )
            grade = await grading.grade(new_sample.answer)
        except PorticoError as error:
            return {**result, "score": criterion.low, "passed": False, "error": _error(error)}
        label = {} if grade.label is None else {"sample": {"label": grade.label}}
        return {**result, "score": grade.score, "passed": criterion.is_passed(grade), **label}

    def _failure(self, error: PorticoError) -> ItemResult:
        """Return the result of an item that failed, which counts as the worst answer."""
        message = _error(error)
        results = [
            {
                "name": criterion.name,
                "type": str(criterion.grader["type"]),
                "score": criterion.low,
                "passed": False,
            }
            for criterion in self._criteria
        ]
        return ItemResult("error", 0.0, results, {"input": [], "output": [], "error": message})


class EvalWork:
    """One attempt at one run. ``instead`` returns the replacements of a trial."""

    def __init__(
        self,
        services: EvalServices,
        row: EvalRunRow,
        source: DataSource,
        criteria: Sequence[Criterion],
        context: Context,
        slots: FairSlots,
        instead: Replacements = _no_replacements,
    ) -> None:
        self._services = services
        self._row = row
        self._source = source
        self._context = context
        self._slots = slots
        self._asking = ItemWork(services, row.owner or "", source, criteria, instead)
        self._is_noted = False

    async def do(self, numbers: Sequence[int], report: Progress) -> None:
        """Process and judge the items without a result. Raises `EndedError`, `PorticoError`."""
        done_numbers = await self._services.database.read(rows.done_items, self._row.id)
        remaining_numbers = [number for number in numbers if number not in done_numbers]
        finished_count = len(numbers) - len(remaining_numbers)
        await report(finished_count, len(numbers))
        queue = iter(remaining_numbers)

        async def worker() -> None:
            nonlocal finished_count
            BEHIND.set(True)
            for number in queue:
                item = await self._services.database.read(rows.item, self._row.data_id, number)
                if item is None:
                    raise EndedError
                async with self._slots.hold():
                    await self._services.wait_for_idle(self._source.target)
                    await self._item(item)
                finished_count += 1
                await report(finished_count, len(numbers))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._services.at_once, len(remaining_numbers))):
                    group.create_task(worker())
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from group_error

    async def _item(self, item: ItemRow) -> None:
        began, clock = time.time(), time.perf_counter()
        outcome = await self._asking.outcome(item, self._context)
        seconds = time.perf_counter() - clock
        total_usage = sum((usage for _name, usage in outcome.spent), Usage())
        output = OutputRow(
            eval_run_id=self._row.id,
            number=item.number,
            status=outcome.status,
            score=outcome.score,
            results=outcome.results,
            sample=outcome.document,
            tokens=total_usage.prompt_tokens + total_usage.completion_tokens,
            seconds=seconds,
            created_at=began,
        )
        add = partial(
            statistics.add_item,
            status=outcome.status,
            score=outcome.score,
            results=outcome.results,
            model_usages=outcome.spent,
            seconds=seconds,
        )
        status = await self._services.database.write(rows.note, output, add)
        if status not in WORKING:
            raise EndedError
        await self._progressed(began, seconds)

    async def _progressed(self, began: float, seconds: float) -> None:
        """Record a step as proof of progress: a run that has made progress is resumed no matter how often it is
        interrupted.
        """
        if self._is_noted:
            return
        self._is_noted = True
        step = StepRow(self._row.id, 1, KIND, "completed", started_at=began, milliseconds=seconds * 1e3)
        scheduler = self._services.scheduler
        await self._services.database.write_soon(steps.record, self._context.run, [step], scheduler.fence)


def _rank_score(grader: Mapping[str, Any], answer: ModelAnswer) -> float:
    """Return the score of the answer's passages as a ranking of the relevant files."""
    found_passages = answer.more.get("retrieved")
    relevant: Any = answer.item
    for name in as_template(grader["relevant"]).strip("{} ").split(".")[1:]:
        relevant = relevant.get(name) if isinstance(relevant, Mapping) else None
    passages = found_passages if isinstance(found_passages, list) else []
    return criteria.measure(grader["metric"], passages, relevant, int(grader.get("k", 10)))


def _error(error: PorticoError) -> dict[str, Any]:
    return {"code": error.code or "error", "message": error.message}
