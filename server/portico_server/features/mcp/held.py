"""Runs that outlive the request that started them. They are kept until the client fetches their result."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeAlias

from portico.wire import Answered, Asked, Delta, Event, Progressed, StepStarted, ToolCalled
from portico_server.core.errors import TooMany
from portico_server.core.principal import Principal
from portico_server.runs.run import Run

logger = logging.getLogger(__name__)

RESULT_LIFETIME_S: Final = 3600.0
"""Seconds for which the result of a run can be fetched after the run ends."""

MAX_HELD_RUNS: Final = 1_000
"""Maximum number of runs kept at the same time. At this limit, a request waits until its call ends."""


class HeldRun:
    """A run that outlives its request.

    ``event_number`` is the number of the last event recorded here or sent to the client; ``message`` is that event's
    text. ``at_end`` is called before the end is announced; a run with ``at_end`` is a task.
    """

    def __init__(
        self,
        run: Run,
        event_number: int,
        message: str,
        questions: Iterable[Asked],
        at_end: AtEnd | None = None,
        held_id: str = "",
    ) -> None:
        self.id = held_id or secrets.token_urlsafe(24)
        """An id that cannot be guessed. Access still requires the caller's key."""
        self.run = run
        self.seen = event_number
        self.message = message
        self.at_end = at_end
        self.settled = False
        """True after the run has ended and ``at_end`` is done."""
        self.updated_at = time.time()
        self.questions = {question.id: question for question in questions}
        """The questions whose answers the run waits for, keyed by id."""

    @property
    def expires_at(self) -> float | None:
        """Return the time when the result expires, in seconds since 1970, or ``None`` before the run ends."""
        return None if self.run.finished_at is None else self.run.finished_at + RESULT_LIFETIME_S

    def note(self, event: Event) -> bool:
        """Record an event. Return whether the state of the run changed."""
        match event:
            case Asked():
                self.questions[event.id] = event
                self.message = event.message or f"Waiting for an answer about '{event.name}'."
            case Answered():
                self.questions.pop(event.id, None)
            case Progressed(stage=stage, message=message):
                self.message = message or stage
            case StepStarted(path=path):
                self.message = path
            case ToolCalled(name=name):
                self.message = f"Calls {name}"
            case Delta():
                return False
        self.updated_at = time.time()
        return True


AtEnd: TypeAlias = Callable[[HeldRun], Awaitable[None]]


class HeldRuns:
    """All runs that outlive their request. An asyncio task watches each run; the callbacks added with `watch` are
    called whenever the state of a run changes.
    """

    def __init__(self) -> None:
        self._runs: dict[str, HeldRun] = {}
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._watchers: list[Callable[[HeldRun], None]] = []

    def watch(self, watcher: Callable[[HeldRun], None]) -> None:
        """Call ``watcher`` whenever the state of a run changes."""
        self._watchers.append(watcher)

    def full(self, caller: Principal) -> bool:
        """Return whether there is no place for another run of this caller. One caller may have half of the maximum."""
        self._sweep()
        if len(self._runs) >= MAX_HELD_RUNS:
            return True
        return (
            sum(held_run.run.caller.id == caller.id for held_run in self._runs.values()) >= MAX_HELD_RUNS // 2
        )

    def require_room(self, caller: Principal) -> None:
        """Raise `TooMany` if there is no place for another run of this caller."""
        if self.full(caller):
            raise TooMany(
                f"No room for another waiting call: this API key may have {MAX_HELD_RUNS // 2} calls that "
                f"wait for an answer or continue as tasks; all keys together may have {MAX_HELD_RUNS}. "
                "Answer or cancel some calls.",
                code="too_many_at_once",
            )

    @property
    def tasks(self) -> list[HeldRun]:
        """Return the runs that are tasks."""
        return [held_run for held_run in self._runs.values() if held_run.at_end is not None]

    def hold(
        self,
        run: Run,
        event_number: int,
        message: str = "",
        questions: Iterable[Asked] = (),
        at_end: AtEnd | None = None,
        held_id: str = "",
    ) -> HeldRun:
        """Keep a run whose events the client has received up to number ``event_number``, including the ``questions``.

        ``held_id`` is the run's existing id here, if it has one.
        """
        held_run = HeldRun(run, event_number, message, questions, at_end, held_id)
        self._runs[held_run.id] = held_run
        self._watching[held_run.id] = asyncio.create_task(self._follow(held_run), name=f"mcp holds {run.id}")
        return held_run

    def get(self, held_id: str, caller: Principal) -> HeldRun | None:
        """Return a run that this caller started, or ``None`` if it belongs to another caller or ended too long ago."""
        self._sweep()
        held_run = self._runs.get(held_id)
        return held_run if held_run is not None and held_run.run.caller.id == caller.id else None

    def release(self, held_run: HeldRun) -> None:
        """Drop a run whose result was sent."""
        self._runs.pop(held_run.id, None)
        watching = self._watching.pop(held_run.id, None)
        if watching is not None:
            watching.cancel()

    async def close(self) -> None:
        """Stop watching. The runner owns the runs and ends them."""
        watching = list(self._watching.values())
        for task in watching:
            task.cancel()
        if watching:
            await asyncio.wait(watching)
        self._runs.clear()
        self._watching.clear()

    async def _follow(self, held_run: HeldRun) -> None:
        async for number, event in held_run.run.log.follow(held_run.seen):
            held_run.seen = number
            if held_run.note(event):
                self._notify_watchers(held_run)
        assert held_run.run.task is not None
        await asyncio.wait([held_run.run.task])
        held_run.questions.clear()
        try:
            if held_run.at_end is not None:
                await held_run.at_end(held_run)
        except Exception:  # after any error, the client must still learn that the run ended
            logger.exception("the end of run %s could not be stored", held_run.run.id)
        held_run.settled = True
        held_run.updated_at = held_run.run.finished_at or time.time()
        self._notify_watchers(held_run)

    def _notify_watchers(self, held_run: HeldRun) -> None:
        for watcher in self._watchers:
            watcher(held_run)

    def _sweep(self) -> None:
        now = time.time()
        for held_run in list(self._runs.values()):
            if held_run.expires_at is not None and held_run.expires_at < now:
                self.release(held_run)
