"""The journals of flow runs: open journals that are being written, and journals kept in memory for inspection."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from portico_server.db import steps
from portico_server.db.database import Database
from portico_server.db.steps import StepRow
from portico_server.features.flows.spec import Durability
from portico_server.runs.journal import Journal
from portico_server.runs.redaction import RedactionRules
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler

MAX_KEPT_JOURNALS: Final = 200
"""Maximum number of journals kept in memory for inspection."""

MAX_KEPT_CHARS: Final = 64 * 2**20
"""Maximum total length of the inputs and outputs in the journals kept in memory, in characters."""


class FlowJournals:
    """Opens journals of runs, and returns the steps that they contain."""

    def __init__(
        self, database: Database, runner: Runner, scheduler: Scheduler, rules: RedactionRules
    ) -> None:
        self._database = database
        self._runner = runner
        self._scheduler = scheduler
        self._rules = rules
        self._journals: OrderedDict[str, Journal] = OrderedDict()

    @contextmanager
    def durable(
        self, durability: Durability, run_id: str, step_rows: Sequence[StepRow] = ()
    ) -> Iterator[Journal]:
        """Open the journal of a durable run for the duration of the block."""
        journal = Journal(
            run_id,
            self._database,
            durability,
            step_rows,
            lambda: self._scheduler.fence,
            on_step=self._step_listener(run_id),
            rules=self._rules,
        )
        run = self._runner.get(run_id)
        if run is not None:
            run.redaction = journal.redaction
        self._journals[run_id] = journal
        try:
            yield journal
        finally:
            if run is not None:
                run.replayed += journal.replayed
            self._journals.pop(run_id, None)

    def in_memory(self, run_id: str) -> Journal:
        """Return a journal that is not written to a database."""
        return Journal(run_id, on_step=self._step_listener(run_id), rules=self._rules)

    def remember(self, run_id: str, journal: Journal) -> None:
        """Keep the journal of a run in memory so that its steps can be inspected."""
        self._journals[run_id] = journal
        self._journals.move_to_end(run_id)
        size = sum(kept_journal.size for kept_journal in self._journals.values())
        while len(self._journals) > MAX_KEPT_JOURNALS or size > MAX_KEPT_CHARS:
            size -= self._journals.popitem(last=False)[1].size

    async def steps(self, run_id: str) -> list[StepRow]:
        """Return the finished steps of a run in the order in which they ended. The list is empty if the run is unknown
        or its journal was dropped.
        """
        journal = self._journals.get(run_id)
        if journal is not None and not journal.durable:
            return sorted(journal.rows.values(), key=lambda row: row.seq)
        if journal is not None:
            await journal.wait_until_idle()
        return await self._database.read(steps.of_run, run_id)

    def without_secrets(self, run_id: str, value: Any) -> Any:
        """Return the output of a run in memory with secret values replaced; ``None`` if the redaction rules of the run
        were dropped.
        """
        journal = self._journals.get(run_id)
        if journal is None:
            return None
        return journal.redaction.of(value) if journal.redaction.active else value

    def _step_listener(self, run_id: str) -> Callable[[StepRow], None] | None:
        telemetry = self._runner.telemetry
        return None if telemetry is None else telemetry.steps(run_id)
