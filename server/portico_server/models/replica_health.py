"""Whether a replica answers: its pauses after failures, and a question to a replica that has calls and is silent."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from portico_server.core import pools
from portico_server.core.errors import EngineFailed, PorticoError
from portico_server.core.relay import Relay
from portico_server.models.answers import close_chunks
from portico_server.models.openai_wire import UpstreamFailed
from portico_server.models.spec import Task

if TYPE_CHECKING:
    from portico_server.models.in_flight import HeldAnswer
    from portico_server.models.protocol import RunningEngine

logger = logging.getLogger(__name__)

SILENCE_S = 30.0
"""Seconds without a byte after which a replica that has calls is asked for one token, at least."""

SLOWEST_FACTOR = 2.0
"""Factor of the longest wait for a first byte so far that also has to pass before a replica counts as silent."""

MAX_DOUBLINGS = 6
"""Number of times the pause of 1 s after a failure is doubled at most."""

MIN_CPU_SHARE = 0.01
"""Share of one processor that a process uses at least while it computes an answer."""

SILENT_CODE = "engine_silent"
"""Code of the error of a call whose replica counts as silent."""

_QUESTIONS: dict[Task, Relay] = {
    "chat": Relay("chat/completions", {"messages": [{"role": "user", "content": "."}], "max_tokens": 1}),
    "embedding": Relay("embeddings", {"input": "."}),
}
"""The smallest request of each task. Replicas of other tasks are not asked."""


class ReplicaHealth:
    """The health of one replica of the model ``name``. ``running`` returns the replica's engine.

    After a failure the replica is left out for 1, 2, 4 … seconds. Then one call at a time tries it until a call
    succeeds. While the replica has calls and sends no byte for ``silence_s`` seconds, it is asked for one token. If it
    does not answer either, its local process is ended; a server on another machine loses the calls that another
    replica can answer, and gets none until it answers the question.
    """

    def __init__(self, name: str, running: Callable[[], RunningEngine | None]) -> None:
        self._name = name
        self._running = running
        self.clock = time.monotonic
        self.silence_s = SILENCE_S
        self.error: PorticoError | None = None
        """The last failure, until a call succeeds."""
        self._failures = 0
        self._paused_until = 0.0
        self._is_silent = False
        self._answers: set[HeldAnswer] = set()
        self._waits: dict[asyncio.Timeout, bool] = {}
        """The calls that wait for their first byte, and whether another replica can answer each."""
        self._events = 0
        self._longest_wait_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._question: asyncio.Task[None] | None = None

    def accepts(self, calls: int) -> bool:
        """Return whether a replica that has ``calls`` calls may get another one."""
        if not self._failures:
            return True
        return not self._is_silent and not calls and self.clock() >= self._paused_until

    def fail(self, error: PorticoError) -> None:
        """Leave the replica out for a while. Failures of calls that began before the pause do not extend it."""
        self.error = error
        if self.clock() >= self._paused_until:
            self._paused_until = self.clock() + 2.0 ** min(self._failures, MAX_DOUBLINGS)
            self._failures += 1

    def recover(self) -> None:
        """Record that a call succeeded."""
        self._failures, self._paused_until, self._is_silent, self.error = 0, 0.0, False, None

    @asynccontextmanager
    async def watch_call(self, *, is_movable: bool) -> AsyncIterator[None]:
        """Watch a call until its first byte is known. Raise `EngineFailed` if the replica is silent while
        ``is_movable``.
        """
        begin = self.clock()
        self._watch()
        wait = asyncio.timeout(None)
        try:
            async with wait:
                self._waits[wait] = is_movable
                yield
        except TimeoutError:
            if not wait.expired():
                raise
            raise EngineFailed(
                f"A server of '{self._name}' has sent nothing for {self._limit_s:.0f} s.", code=SILENT_CODE
            ) from None
        finally:
            self._waits.pop(wait, None)
            self._events += 1
        self._longest_wait_s = max(self._longest_wait_s, self.clock() - begin)

    def begin_answer(self, answer: HeldAnswer) -> None:
        """Watch an answer whose first byte has arrived."""
        self._answers.add(answer)

    def end_answer(self, answer: HeldAnswer) -> None:
        self._answers.discard(answer)
        self._events += answer.pieces + 1

    async def stop(self) -> None:
        """Stop watching the replica, whose process ends."""
        question, self._question = self._question, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if question is not None and question is not asyncio.current_task():
            question.cancel()
            await asyncio.wait([question])
        self.recover()

    @property
    def _limit_s(self) -> float:
        return max(self.silence_s, SLOWEST_FACTOR * self._longest_wait_s)

    @property
    def _progress(self) -> int:
        """A number that grows with each piece of an answer and each end of a call."""
        return self._events + sum(answer.pieces for answer in self._answers)

    def _watch(self) -> None:
        if self._timer is None and self._question is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._limit_s, self._check, self._progress)

    def _check(self, progress: int) -> None:
        """Ask the replica if no byte has arrived since it had made ``progress``."""
        self._timer = None
        if not self._waits and not self._answers and not self._is_silent:
            return
        if self._progress == progress or self._is_silent:
            self._question = asyncio.create_task(self._ask_again(), name=f"ask {self._name}")
        else:
            self._watch()

    async def _ask_again(self) -> None:
        try:
            await self.ask()
        finally:
            if self._question is asyncio.current_task():
                self._question = None
        if self._is_silent:
            pause_s = max(0.0, self._paused_until - self.clock())
            self._timer = asyncio.get_running_loop().call_later(pause_s, self._check, self._progress)
        elif self._waits or self._answers:
            self._watch()

    async def ask(self) -> None:
        """Ask the replica for one token. If it does not answer and is not computing, end its calls."""
        running = self._running()
        if running is None or (question := _QUESTIONS.get(running.description.task)) is None:
            return
        progress = self._progress
        pid = running.process.pid if running.process is not None else None
        cpu_s = await pools.FILES.run(_cpu_seconds, pid)
        if await self._answers_question(running, question):
            if self._is_silent:
                self.recover()
            return
        used_s = await pools.FILES.run(_cpu_seconds, pid) - cpu_s
        if self._progress != progress or used_s > MIN_CPU_SHARE * self._limit_s:
            return
        error = EngineFailed(f"A server of '{self._name}' does not answer.", code=SILENT_CODE)
        if running.process is not None:
            logger.warning("ending the engine of %s: it has calls and sends nothing", self._name)
            await running.process.kill()
            return
        logger.warning("a server of %s has calls and sends nothing", self._name)
        self._is_silent = True
        self.fail(error)
        for wait, is_movable in list(self._waits.items()):
            if is_movable:
                wait.reschedule(asyncio.get_running_loop().time())

    async def _answers_question(self, running: RunningEngine, question: Relay) -> bool:
        try:
            async with asyncio.timeout(self._limit_s):
                await close_chunks((await running.client.relay(question, None)).chunks)
        except TimeoutError:
            return False
        except PorticoError as error:  # a refusal is an answer; a connection that breaks is not
            return not isinstance(error, EngineFailed) or isinstance(error, UpstreamFailed)
        return True


def _cpu_seconds(pid: int | None) -> float:
    """Return the processor time of a process and its children; 0 for a process on another machine. Blocks."""
    if pid is None:
        return 0.0
    import psutil  # takes longer to import than everything else in this module

    try:
        process = psutil.Process(pid)
        times = [part.cpu_times() for part in (process, *process.children(recursive=True))]
    except psutil.Error:
        return 0.0
    return float(sum(part.user + part.system for part in times))
