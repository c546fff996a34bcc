"""Runs, and what they ask and leave."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from portico._async.group import Group
from portico._calls.flows import run_chart, run_fork, run_resume, run_trace
from portico._calls.questions import (
    Watching,
    question_answer,
    question_events,
    question_get,
    questions_claim,
    questions_list,
)
from portico._calls.runs import (
    artifact_content,
    artifact_get,
    artifact_remove,
    artifacts_list,
    run_cancel,
    run_get,
    runs_list,
    runs_prune,
)
from portico._follow import Follow
from portico.errors import ConnectionLost
from portico.values import (
    Artifact,
    Claims,
    Pruned,
    Question,
    Run,
    RunEvent,
    TraceStep,
)


class Runs(Group):
    """Executions: calls, ingests, downloads."""

    async def list(self, limit: int = 50) -> list[Run]:
        """The newest first."""
        return await self._transport.send(runs_list(limit))

    async def get(self, run_id: str) -> Run:
        """One by id. Raises `NotFound`."""
        return await self._transport.send(run_get(run_id))

    async def events(self, run_id: str, *, after: int = 0) -> AsyncIterator[RunEvent]:
        """Events with a number above ``after``, in order, until the run ends; through lost connections."""
        follow = Follow(run_id, after)
        while not follow.done:
            try:
                async for item in self._transport.stream(follow.call()):
                    follow.saw(item)
                    yield item
            except ConnectionLost as error:
                await self._transport.rest(follow.pause(error))

    async def cancel(self, run_id: str) -> None:
        """Stop a run."""
        return await self._transport.send(run_cancel(run_id))

    async def prune(self, *, days: float | None = None, dry_run: bool = False) -> Pruned:
        """Remove what ended more than ``days`` ago (default: the setting ``keep_runs_days``); admins alone."""
        return await self._transport.send(runs_prune(days, dry_run))

    async def trace(self, run_id: str, *, full: bool = False) -> Sequence[TraceStep]:
        """The finished steps of a run of a flow. ``full``: outputs as they are, not cut."""
        return await self._transport.send(run_trace(run_id, full))

    async def chart(self, run_id: str) -> str:
        """The steps of a run as the text of a Mermaid gantt chart."""
        return await self._transport.send(run_chart(run_id))

    async def resume(self, run_id: str, *, start: str = "") -> Run:
        """Go on with a durable run that has ended: behind its last finished step, or again from the step ``start``."""
        return await self._transport.send(run_resume(run_id, start))

    async def fork(self, run_id: str, *, start: str = "", input: Any = ...) -> Run:
        """A new run like a durable one: with another ``input``, or with all steps before ``start`` taken over."""
        given, anew = (None, False) if input is ... else (input, True)
        return await self._transport.send(run_fork(run_id, start, given, anew))


class Questions(Group):
    """What runs wait for: approvals, functions of clients, input of people."""

    async def list(
        self, *, status: str | None = None, run: str | None = None, limit: int = 100
    ) -> list[Question]:
        """The newest of your runs, or of one; ``status`` picks one, such as ``pending``."""
        return await self._transport.send(questions_list(status, run, limit))

    async def get(self, question_id: str) -> Question:
        """One by id. Raises `NotFound`."""
        return await self._transport.send(question_get(question_id))

    async def answer(
        self, question_id: str, accepted: bool, *, value: Any = None, note: str = "", worker: str = ""
    ) -> Question:
        """Answer; the run continues. Raises `Conflict` if it was answered or has expired, `InvalidRequest` if ``value``
        does not match ``answer_schema``. ``worker`` is the name under which a function was claimed.
        """
        return await self._transport.send(question_answer(question_id, accepted, value, note, worker))

    async def watch(self) -> AsyncIterator[Question]:
        """Those that wait, then each as it is asked, answered or ends; after a lost connection from the start again."""
        watching = Watching()
        while True:
            try:
                async for item in self._transport.stream(question_events()):
                    watching.saw()
                    yield item
            except ConnectionLost as error:
                await self._transport.rest(watching.pause(error))

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
        return await self._transport.send(
            questions_claim(names, worker, run=run, limit=limit, lease=lease, wait=wait, holding=holding)
        )


class Artifacts(Group):
    """Files that runs made: figures, tables, results too large for an answer."""

    async def list(self, *, run: str | None = None, limit: int = 100) -> list[Artifact]:
        """The newest, of one run if it is named."""
        return await self._transport.send(artifacts_list(run, limit))

    async def get(self, artifact_id: str) -> Artifact:
        """One by id. Raises `NotFound`."""
        return await self._transport.send(artifact_get(artifact_id))

    async def content(self, artifact_id: str) -> bytes:
        """The bytes of one."""
        return await self._transport.send(artifact_content(artifact_id))

    async def remove(self, artifact_id: str) -> None:
        """Delete one."""
        return await self._transport.send(artifact_remove(artifact_id))
