"""Runs, and what they ask and leave."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from portico._async.calls import questions as calls_questions
from portico._async.calls import runs as calls_runs
from portico._events import QuestionEvents, RunEvents
from portico._read import Page
from portico._request import at, by_id, given, named
from portico.schemas.questions import Claims, Question
from portico.schemas.runs import Run, RunEvent

MAX_PAGE_RUNS = 500
"""Runs that are asked for at once."""


class Runs(calls_runs.Runs):
    """Executions: calls, ingests, downloads."""

    async def list(self, limit: int = 50, *, after: str | None = None) -> list[Run]:
        """The newest first, or those behind the run ``after``; at most ``limit``, whatever a page holds."""
        runs: list[Run] = []
        while len(runs) < limit:
            query = given(after=after, limit=min(limit - len(runs), MAX_PAGE_RUNS))
            page = await self._transport.request("GET", "/api/runs", Page[Run], query=query)
            runs += page.data
            if not page.has_more:
                break
            after = runs[-1].id
        return runs

    def events(self, run_id: str, *, after: int = 0) -> AsyncIterator[RunEvent]:
        """Events with a number above ``after``, in order, until the run ends; through lost connections."""
        return self._follow(at("api", "runs", named(run_id, "a run"), "events"), RunEvents(after))

    async def wait(self, run_id: str) -> Run:
        """The run as it is when it has ended, well or not; through lost connections. Raises `NotFound`."""
        async for _event in self.events(run_id):
            pass
        return await self.get(run_id)

    async def chart(self, run_id: str) -> str:
        """The steps of a run as the text of a Mermaid gantt chart."""
        query = {"format": "mermaid"}
        return await self._transport.request("GET", self._at(run_id, "trace"), str, query=query)

    async def fork(self, run_id: str, *, start: str = "", input: Any = ...) -> Run:
        """A new run like a durable one: with another ``input``, or with all steps before ``start`` taken over."""
        new_value, new_input = (None, False) if input is ... else (input, True)
        body = {"from": start, "input": new_value, "new_input": new_input}
        return await self._transport.request("POST", self._at(run_id, "fork"), Run, json=body)

    def _at(self, run_id: str, part: str) -> str:
        return at("api", "runs", by_id(run_id, "a run"), part)


class Questions(calls_questions.Questions):
    """What runs wait for: approvals, functions of clients, input of people."""

    def watch(self) -> AsyncIterator[Question]:
        """Those that wait, then each as it is asked, answered or ends; after a lost connection from the start again."""
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
        """Take functions called one of ``names`` that your runs (or ``run``) ask for; `answer` each within ``lease``
        seconds, or claim again with its id in ``holding``. Waits up to ``wait`` seconds for the first.
        """
        body = given(
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
