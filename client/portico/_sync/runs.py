# Generated from portico._async by scripts/sdk: change it there.
"""Runs, the questions that they ask, and their results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from portico._events import QuestionEvents, RunEvents
from portico._read import Page
from portico._request import at, by_id, check_path_name, without_none
from portico._sync.calls import questions as calls_questions
from portico._sync.calls import runs as calls_runs
from portico.schemas.questions import Claims, Question
from portico.schemas.runs import Run, RunEvent

MAX_PAGE_RUNS = 500
"""Maximum number of runs per request."""


class Runs(calls_runs.Runs):
    """Executions: calls, ingests, downloads."""

    def list(self, limit: int = 50, *, after: str | None = None) -> list[Run]:
        """List up to ``limit`` runs, newest first; with ``after``, only the runs that follow this run."""
        runs: list[Run] = []
        while len(runs) < limit:
            query = without_none(after=after, limit=min(limit - len(runs), MAX_PAGE_RUNS))
            page = self._transport.request("GET", "/api/runs", Page[Run], query=query)
            runs += page.data
            if not page.has_more:
                break
            after = runs[-1].id
        return runs

    def events(self, run_id: str, *, after: int = 0) -> Iterator[RunEvent]:
        """Iterate over events numbered above ``after``, in order, until the run ends. The iteration survives lost
        connections.
        """
        return self._follow(at("api", "runs", check_path_name(run_id, "a run"), "events"), RunEvents(after))

    def wait(self, run_id: str) -> Run:
        """Wait until the run has ended, successfully or not, and return it. The wait survives lost connections. Raises
        `NotFound`.
        """
        for _event in self.events(run_id):
            pass
        return self.get(run_id)

    def chart(self, run_id: str) -> str:
        """Return the steps of a run as a Mermaid Gantt chart (its source text)."""
        query = {"format": "mermaid"}
        return self._transport.request("GET", self._at(run_id, "trace"), str, query=query)

    def fork(self, run_id: str, *, start: str = "", input: Any = ...) -> Run:
        """Start a new run from a durable run: with a different ``input``, or reusing the results of all steps before
        ``start``.
        """
        new_value, new_input = (None, False) if input is ... else (input, True)
        body = {"from": start, "input": new_value, "new_input": new_input}
        return self._transport.request("POST", self._at(run_id, "fork"), Run, json=body)

    def _at(self, run_id: str, part: str) -> str:
        return at("api", "runs", by_id(run_id, "a run"), part)


class Questions(calls_questions.Questions):
    """Questions that runs wait for: approvals, calls of clients' functions, and input from people."""

    def watch(self) -> Iterator[Question]:
        """Iterate over the open questions, then over each question that is asked, is answered or ends. After a lost
        connection, start again with the open questions.
        """
        return self._follow("/api/questions/events", QuestionEvents())

    def claim(
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
        """Claim calls of the functions in ``names`` from your runs (or only from ``run``).

        Within ``lease`` seconds, `answer` each call, or claim again with its id in ``holding``. Waits up to ``wait``
        seconds for the first call.
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
        return self._transport.request("POST", "/api/questions/claim", Claims, json=body, slow=True)

    def _at(self, question_id: str, *parts: str) -> str:
        return at("api", "questions", by_id(question_id, "a question"), *parts)
