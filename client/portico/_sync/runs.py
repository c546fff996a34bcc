# Made from portico/_async by scripts/twin: change it there.
"""Runs, and what they ask and leave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from portico._events import QuestionEvents, RunEvents
from portico._read import Page
from portico._request import at, by_id, given, named
from portico._sync.group import Group
from portico.schemas.artifacts import ArtifactRecord
from portico.schemas.flows import TraceStep
from portico.schemas.questions import Claims, Question
from portico.schemas.runs import Pruned, Run, RunEvent

MAX_PAGE_RUNS = 500
"""Runs that are asked for at once."""


class Runs(Group):
    """Executions: calls, ingests, downloads."""

    def list(self, limit: int = 50, *, after: str | None = None) -> list[Run]:
        """The newest first, or those behind the run ``after``; at most ``limit``, whatever a page holds."""
        found: list[Run] = []
        while len(found) < limit:
            query = given(after=after, limit=min(limit - len(found), MAX_PAGE_RUNS))
            page = self._transport.request("GET", "/api/runs", Page[Run], query=query)
            found += page.data
            if not page.has_more:
                break
            after = found[-1].id
        return found

    def get(self, run_id: str) -> Run:
        """One by id. Raises `NotFound`."""
        return self._transport.request("GET", at("api", "runs", named(run_id, "a run")), Run)

    def events(self, run_id: str, *, after: int = 0) -> Iterator[RunEvent]:
        """Events with a number above ``after``, in order, until the run ends; through lost connections."""
        return self._follow(at("api", "runs", named(run_id, "a run"), "events"), RunEvents(after))

    def wait(self, run_id: str) -> Run:
        """The run as it is when it has ended, well or not; through lost connections. Raises `NotFound`."""
        for _event in self.events(run_id):
            pass
        return self.get(run_id)

    def cancel(self, run_id: str) -> None:
        """Stop a run."""
        return self._transport.request("POST", at("api", "runs", named(run_id, "a run"), "cancel"), None)

    def prune(self, *, days: float | None = None, dry_run: bool = False) -> Pruned:
        """Remove what ended more than ``days`` ago (default: the setting ``keep_runs_days``); admins alone."""
        body = given(days=days, dry_run=dry_run)
        return self._transport.request("POST", "/api/runs/prune", Pruned, json=body, slow=True)

    def trace(self, run_id: str, *, full: bool = False) -> Sequence[TraceStep]:
        """The finished steps of a run of a flow. ``full``: outputs as they are, not cut."""
        path, query = self._at(run_id, "trace"), {"full": "true"} if full else {}
        return self._transport.request("GET", path, list[TraceStep], query=query, key="steps")

    def chart(self, run_id: str) -> str:
        """The steps of a run as the text of a Mermaid gantt chart."""
        query = {"format": "mermaid"}
        return self._transport.request("GET", self._at(run_id, "trace"), str, query=query)

    def resume(self, run_id: str, *, start: str = "") -> Run:
        """Go on with a durable run that has ended: behind its last finished step, or again from the step ``start``."""
        return self._transport.request("POST", self._at(run_id, "resume"), Run, json={"from": start})

    def fork(self, run_id: str, *, start: str = "", input: Any = ...) -> Run:
        """A new run like a durable one: with another ``input``, or with all steps before ``start`` taken over."""
        other, new_input = (None, False) if input is ... else (input, True)
        body = {"from": start, "input": other, "new_input": new_input}
        return self._transport.request("POST", self._at(run_id, "fork"), Run, json=body)

    def _at(self, run_id: str, what: str) -> str:
        return at("api", "runs", by_id(run_id, "a run"), what)


class Questions(Group):
    """What runs wait for: approvals, functions of clients, input of people."""

    def list(self, *, status: str | None = None, run: str | None = None, limit: int = 100) -> list[Question]:
        """The newest of your runs, or of one; ``status`` picks one, such as ``pending``."""
        query = given(status=status, run=run, limit=limit)
        return self._transport.request("GET", "/api/questions", list[Question], query=query)

    def get(self, question_id: str) -> Question:
        """One by id. Raises `NotFound`."""
        return self._transport.request("GET", self._at(question_id), Question)

    def answer(
        self, question_id: str, accepted: bool, *, value: Any = None, note: str = "", worker: str = ""
    ) -> Question:
        """Answer; the run continues. Raises `Conflict` if it was answered or has expired, `InvalidRequest` if ``value``
        does not match ``answer_schema``. ``worker`` is the name under which a function was claimed.
        """
        body = {"accepted": accepted, "value": value, "note": note, "worker": worker}
        return self._transport.request("POST", self._at(question_id, "answer"), Question, json=body)

    def watch(self) -> Iterator[Question]:
        """Those that wait, then each as it is asked, answered or ends; after a lost connection from the start again."""
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
        return self._transport.request("POST", "/api/questions/claim", Claims, json=body, slow=True)

    def _at(self, question_id: str, *more: str) -> str:
        return at("api", "questions", by_id(question_id, "a question"), *more)


class Artifacts(Group):
    """Files that runs made: figures, tables, results too large for an answer."""

    def list(self, *, run: str | None = None, limit: int = 100) -> list[ArtifactRecord]:
        """The newest, of one run if it is named."""
        query = given(run=run, limit=limit)
        return self._transport.request("GET", "/api/artifacts", list[ArtifactRecord], query=query)

    def get(self, artifact_id: str) -> ArtifactRecord:
        """One by id. Raises `NotFound`."""
        return self._transport.request("GET", self._at(artifact_id), ArtifactRecord)

    def content(self, artifact_id: str) -> bytes:
        """The bytes of one."""
        return self._transport.request("GET", self._at(artifact_id, "content"), bytes, slow=True)

    def remove(self, artifact_id: str) -> None:
        """Delete one."""
        return self._transport.request("DELETE", self._at(artifact_id), None)

    def _at(self, artifact_id: str, *more: str) -> str:
        return at("api", "artifacts", named(artifact_id, "an artifact"), *more)
