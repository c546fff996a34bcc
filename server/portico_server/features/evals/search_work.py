"""The work of one search, in a durable run: its rounds, trial by trial, and the choice of the trials that continue."""

from __future__ import annotations

import random
from collections.abc import Sequence

from portico.wire import Progressed
from portico_server.core.context import Context
from portico_server.core.errors import (
    PorticoError,
)
from portico_server.core.work_slots import FairSlots
from portico_server.db import eval_searches
from portico_server.db import evals as eval_rows
from portico_server.db.eval_searches import EvalSearchRow
from portico_server.db.evals import EvalRunRow
from portico_server.features.evals import axes
from portico_server.features.evals.axes import Halving
from portico_server.features.evals.spec import STOPPED, WORKING, EvalServices, Evaluation
from portico_server.features.evals.trials import PreparedTrial, Trials, error_document, rank_trials
from portico_server.features.evals.work import EvalWork


class SearchWork:
    """One attempt at one search. The results of earlier attempts are in the outputs of the trials."""

    def __init__(
        self,
        services: EvalServices,
        row: EvalSearchRow,
        test: Evaluation,
        context: Context,
        slots: FairSlots,
    ) -> None:
        self._services = services
        self._row = row
        self._test = test
        self._context = context
        self._slots = slots
        self._making = Trials(services, row.spec["data_source"], row.spec.get("fine_tuning"), context.caller)
        self._done_count = 0
        self._total = 0

    async def do(self) -> str | None:
        """Run all rounds; return the id of the best trial, or ``None`` if all trials failed."""
        spec = self._row.spec
        halving = Halving(**spec["halving"]) if spec["halving"] else None
        numbers = list(range(self._row.total))
        if halving is not None:
            random.Random(spec["seed"]).shuffle(numbers)  # noqa: S311  # no secret: so that the first stand for all
        plan = axes.rounds(int(spec["trials"]), self._row.total, halving)
        self._total = axes.items_asked(plan)
        before = 0
        for number, (_remaining, size) in enumerate(plan):
            alive = await self._alive()
            for trial in sorted(alive, key=_load):
                await self._try(trial, numbers[:size], before)
            before = size
            if number + 1 < len(plan):
                await self._cut(plan[number + 1][0])
        last = rank_trials(await self._alive(), spec["objective"], spec["direction"])
        for trial in last:
            await self._services.database.write(
                eval_rows.move, trial.id, "completed", since=WORKING, has_ended=True
            )
        return last[0].id if last else None

    async def _alive(self) -> list[EvalRunRow]:
        run_rows = await self._services.database.read(eval_searches.trials, self._row.id)
        return [trial for trial in run_rows if trial.status not in ("failed", STOPPED, "canceled")]

    async def _try(self, trial: EvalRunRow, numbers: Sequence[int], before: int) -> None:
        database = self._services.database
        began = self._done_count

        async def on_progress(done_count: int, _total: int) -> None:
            self._done_count = began + max(0, done_count - before)
            await self._context.emit(Progressed("search", trial.name, self._done_count, self._total, "items"))

        await database.write(eval_rows.move, trial.id, "in_progress", since=WORKING)
        try:
            new_trial = await self._prepare(trial)
        except PorticoError as error:
            # A trial that can no longer run, because an object that it names was removed, must not stop the
            # other trials.
            error_text = error_document(error)
            await database.write(
                eval_rows.move, trial.id, "failed", since=WORKING, error=error_text, has_ended=True
            )
            return
        work = EvalWork(
            self._services,
            trial,
            new_trial.source,
            self._test.criteria,
            self._context,
            self._slots,
            instead=lambda _item: new_trial.instead,
        )
        await work.do(numbers, on_progress)

    async def _prepare(self, trial: EvalRunRow) -> PreparedTrial:
        """Return the prepared trial. If the trial needs a trained model, train it first, once for all trials with the
        same training settings.
        """
        new_trial = await self._making.make(trial.settings or {})
        if new_trial.training is None:
            return new_trial
        place, caller = self._services, self._context.caller
        trainer = await place.find_trainer()
        job = await trainer.begin(new_trial.training, self._row.id, new_trial.key, caller)

        async def heard(step: int, total: int | None) -> None:
            await self._context.emit(Progressed("train", job, step, total, "steps"))

        await heard(0, None)
        model = await trainer.train(job, caller, heard)
        new_trial = await self._making.make(trial.settings or {}, model)
        await place.database.write(eval_searches.change_source, trial.id, new_trial.source.document, model)
        return new_trial

    async def _cut(self, remaining_count: int) -> None:
        """Abandon all but the best trials in one transaction, so that a resumed search keeps the decision."""
        alive = await self._alive()
        if len(alive) > remaining_count:
            losers = rank_trials(alive, self._row.spec["objective"], self._row.spec["direction"])[
                remaining_count:
            ]
            await self._services.database.write(
                eval_searches.give_up_trials, [trial.id for trial in losers], STOPPED
            )


def _load(trial: EvalRunRow) -> tuple[str, str]:
    """Return the sort key that puts trials with the same model together, so that the model is loaded only once."""
    return str(trial.source.get("model") or ""), trial.id
