"""Runs, their questions and their results."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from portico._async.calls import questions as calls_questions
from portico._async.calls import runs as calls_runs
from portico._events import QuestionEvents, RunEvents
from portico._read import Page
from portico._request import at, by_id, check_path_name, without_none
from portico.schemas.questions import Claims, Question
from portico.schemas.runs import Run, RunEvent

MAX_PAGE_RUNS = 500
"""Maximum number of runs per request."""


class Runs(calls_runs.Runs):
    """Executions: calls, ingests, downloads."""

    async def list(self, limit: int = 50, *, after: str | None = None) -> list[Run]:
        """List the newest runs first, or those after the run ``after``; at most ``limit``, regardless of the page
        size.
        """
        runs: list[Run] = []
        while len(runs) < limit:
            query = without_none(after=after, limit=min(limit - len(runs), MAX_PAGE_RUNS))
            page = await self._transport.request("GET", "/api/runs", Page[Run], query=query)
            runs += page.data
            if not page.has_more:
                break
            after = runs[-1].id
        return runs

    def events(self, run_id: str, *, after: int = 0) -> AsyncIterator[RunEvent]:
        """Iterate over events with a number above ``after``, in order, until the run ends; lost connections are
        resumed.
        """
        return self._follow(at("api", "runs", check_path_name(run_id, "a run"), "events"), RunEvents(after))

    async def wait(self, run_id: str) -> Run:
        """Wait until the run has ended, successfully or not, and return it; lost connections are resumed. Raises
        `NotFound`.
        """
        async for _event in self.events(run_id):
            pass
        return await self.get(run_id)

    async def chart(self, run_id: str) -> str:
        """Return the steps of a run as the text of a Mermaid gantt chart."""
        query = {"format": "mermaid"}
        return await self._transport.request("GET", self._at(run_id, "trace"), str, query=query)

    async def fork(self, run_id: str, *, start: str = "", input: Any = ...) -> Run:
        """Start a new run from a durable run: with another ``input``, or reusing all steps before ``start``."""
        new_value, new_input = (None, False) if input is ... else (input, True)
        body = {"from": start, "input": new_value, "new_input": new_input}
        return await self._transport.request("POST", self._at(run_id, "fork"), Run, json=body)

    def _at(self, run_id: str, part: str) -> str:
        return at("api", "runs", by_id(run_id, "a run"), part)


class Questions(calls_questions.Questions):
    """Questions that runs wait for: approvals, functions of clients, input from people."""

    def watch(self) -> AsyncIterator[Question]:
        """Iterate over the open questions, then each one as it is asked, answered or ends. After a lost connection,
        start over.
        """
        return self._follow("/api/questions/events", QuestionEvents())

    async def claim(
        self,
        names: Sequence[str],
        worker: str,
        *,
        run: str | None = None,
        limit: int = 1,
        lease: float = 30,
        wait: float = 0,
        holding: Sequence[str] = (),
    ) -> Claims:
        """Claim functions with one of ``names`` that your runs (or ``run``) call. `answer` each within ``lease``
        seconds, or claim again with its id in ``holding``. Waits up to ``wait`` seconds for the first.
        """
        body = without_none(
            names=list(names),
            worker=worker,
            limit=limit,
            lease_seconds=lease,
            wait=wait,
            holding=list(holding),
            run=run,
        )
        return await self._transport.request("POST", "/api/questions/claim", Claims, json=body, slow=True)

    def _at(self, question_id: str, *parts: str) -> str:
        return at("api", "questions", by_id(question_id, "a question"), *parts)
