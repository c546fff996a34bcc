"""The replicas of one deployment: which process a call goes to, and how all of them are seen as one."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

from portico.schemas.deployments import Replica
from portico_server.core.errors import PorticoError, TooMany
from portico_server.core.relay import Relay
from portico_server.models.in_flight import InFlightCall
from portico_server.models.process import ModelProcess
from portico_server.models.protocol import RunningEngine
from portico_server.models.spec import State
from portico_server.models.startup_progress import EmitEvent

QUEUE_FULL_RETRY_S = 2.0
"""Seconds after which a caller who found the queue full may try again."""

MAX_EXTRA_CALLS = 2
"""Calls by which the process that knows a conversation may be busier than the least busy one."""

MAX_CONVERSATIONS = 4_096
"""Conversations whose process is remembered."""

OPENING_CHARS = 2_000
"""Characters of a message that distinguish conversations."""

_BEST_FIRST: tuple[State, ...] = ("ready", "loading", "downloading", "failed", "cold")


class ReplicaPool:
    """One or more `ModelProcess`, in the order of the spec. ``queue_limit`` is for all of them; 0 for any number.

    A call goes to the least busy process that runs; a chat goes to the one that answered its beginning before, which
    has that beginning in its prompt cache, unless that one has `MAX_EXTRA_CALLS` calls more. The first call starts one
    process with the memory it needs. Once that runs, the others are started beside it with what memory is free, and
    nobody waits for them.
    """

    def __init__(self, name: str, model_processes: Sequence[ModelProcess], queue_limit: int) -> None:
        self.processes = tuple(model_processes)
        self._name = name
        self._queue_limit = queue_limit
        self._by_opening: OrderedDict[int, ModelProcess] = OrderedDict()

    @property
    def calls(self) -> int:
        """Calls that wait for one of them or are being answered."""
        return sum(process.turns.calls for process in self.processes)

    def enter(self, request: Relay) -> ReplicaLease:
        """A lease for a call that has come; whoever takes it must `ReplicaLease.leave` it. Raises `TooMany`."""
        if self._queue_limit and (calls := self.calls) >= self._queue_limit:
            raise TooMany(
                f"'{self._name}' has {calls} calls already, the most that may wait for it. Try again later, or "
                "set 'queue_limit' higher.",
                code="queue_full",
                retry_after=QUEUE_FULL_RETRY_S,
            )
        process = self.processes[0] if len(self.processes) == 1 else self._choose(request)
        return ReplicaLease(self, process)

    def _choose(self, request: Relay) -> ModelProcess:
        able = self._candidates()
        self.wake()
        least = min(able, key=lambda process: (process.turns.calls, process.last_used))
        opening = _opening(request)
        if opening is None:
            return least
        model_process = self._by_opening.pop(opening, least)
        chosen_model_process = (
            model_process
            if model_process in able and model_process.turns.calls - least.turns.calls <= MAX_EXTRA_CALLS
            else least
        )
        self._by_opening[opening] = chosen_model_process
        if len(self._by_opening) > MAX_CONVERSATIONS:
            self._by_opening.popitem(last=False)
        return chosen_model_process

    def wake(self) -> None:
        """See to it that all of them run once one does."""
        if len(self.processes) > 1 and any(process.is_ready for process in self.processes):
            for process in self.processes:
                process.wake()

    def _candidates(self) -> list[ModelProcess]:
        """Those that can answer soonest: running ones, else starting ones, else the first."""
        running = [process for process in self.processes if process.is_ready]
        return running or [process for process in self.processes if process.starting] or [self.processes[0]]

    def other_running(self, model_process: ModelProcess) -> ModelProcess | None:
        """A process that runs, for a call whose own could not be started."""
        running = [process for process in self.processes if process is not model_process and process.is_ready]
        return min(running, key=lambda process: process.turns.calls, default=None)

    async def load(self, emit: EmitEvent) -> RunningEngine:
        """Start all of them; returns when none is starting any more. Raises if none runs then."""
        running = await self._candidates()[0].load(emit)
        self.wake()
        starts = [process.launch.task for process in self.processes if process.launch.task is not None]
        if starts:
            await asyncio.wait(starts)
        return running

    async def unload(self, *, drain: float | None) -> None:
        """End all of them once the calls that are here have ended, or after ``drain`` seconds."""
        await asyncio.gather(*(process.unload(drain=drain) for process in self.processes))

    async def close(self) -> None:
        """End all of them now and for good."""
        await asyncio.gather(*(process.close() for process in self.processes))

    @property
    def state(self) -> State:
        """The best that one of them is in."""
        states = {process.state for process in self.processes}
        return next(state for state in _BEST_FIRST if state in states)

    @property
    def running(self) -> RunningEngine | None:
        """The first that answers now."""
        return next((process.running for process in self.processes if process.running is not None), None)

    @property
    def pid(self) -> int | None:
        return next((process.pid for process in self.processes if process.pid is not None), None)

    @property
    def memory(self) -> int | None:
        """Bytes that all processes hold; ``None`` without a process."""
        sizes = [size for process in self.processes if (size := process.memory) is not None]
        return sum(sizes) if sizes else None

    @property
    def error(self) -> PorticoError | None:
        """Why the first that does not run does not."""
        return next(
            (process.launch.error for process in self.processes if process.launch.error is not None), None
        )

    @property
    def used_at(self) -> float | None:
        return max((process.used_at for process in self.processes if process.used_at), default=None)

    @property
    def loaded_at(self) -> float | None:
        """When the first of those that run was loaded."""
        return min(
            (
                process.slot.loaded_at
                for process in self.processes
                if process.running and process.slot.loaded_at
            ),
            default=None,
        )

    @property
    def idle_since(self) -> float | None:
        """Since when all its processes have had nothing to do; ``None`` if one is busy or there is none."""
        if self.calls:
            return None
        return max((since for process in self.processes if (since := process.idle_since)), default=None)

    @property
    def starts(self) -> int:
        return sum(process.slot.starts for process in self.processes)

    @property
    def crashes(self) -> int:
        return sum(process.slot.crashes for process in self.processes)

    def replicas(self) -> tuple[Replica, ...]:
        """Each of them by itself; none where there is only one."""
        if len(self.processes) == 1:
            return ()
        return tuple(_replica(process) for process in self.processes)

    def log(self, lines: int) -> list[str]:
        """The last lines of their logs; with the number of the process before each where there are several."""
        if len(self.processes) == 1:
            return self.processes[0].slot.log(lines)
        return [
            f"[{number}] {line}"
            for number, process in enumerate(self.processes, 1)
            for line in process.slot.log(lines // len(self.processes) or 1)
        ]


class ReplicaLease:
    """One call's lease of one of the processes, from its arrival to the end of its answer."""

    __slots__ = ("_call", "_pool", "_process")

    def __init__(self, pool: ReplicaPool, process: ModelProcess) -> None:
        self._pool = pool
        self._process = process
        self._call: InFlightCall = process.enter()

    @property
    def process(self) -> ModelProcess:
        """The process that this call goes to."""
        return self._process

    async def engine(self, emit: EmitEvent) -> RunningEngine:
        """The running engine, started if need be. Goes to another process that runs if this one does not start."""
        while True:
            try:
                running = await self._process.engine(self._call, emit)
            except PorticoError as error:
                model_process = self._pool.other_running(self._process)
                if model_process is None:
                    raise error.without_folders() from error
                self._call.leave()
                self._process, self._call = model_process, model_process.enter()
            else:
                self._pool.wake()
                return running

    def leave(self, running: RunningEngine | None = None, error: BaseException | None = None) -> None:
        """The end of a call that had ``running``, or of one that never got that far. May be called again."""
        if running is None:
            self._call.leave()
        else:
            self._process.leave(self._call, running, error)


def _replica(process: ModelProcess) -> Replica:
    """One of several processes, as the daemon shows it."""
    error = process.launch.error
    return Replica(
        source=process.spec.source,
        engine=process.launch.kind.name,
        state=process.state,
        pid=process.pid,
        memory_bytes=process.memory,
        error=error.message if error else None,
        calls=process.turns.calls,
        starts=process.slot.starts,
        crashes=process.slot.crashes,
    )


def _opening(request: Relay) -> int | None:
    """What is the same in every turn of a conversation: its messages up to the first of the user. A hash."""
    if request.operation != "chat/completions":
        return None
    opening_texts = [
        request.adapter.name if request.adapter is not None else ""
    ]  # they share no prompt cache
    for message in request.body.get("messages") or ():
        content = message.get("content")
        opening_texts.append(
            content[:OPENING_CHARS] if isinstance(content, str) else str(content)[:OPENING_CHARS]
        )
        if message.get("role") == "user":
            break
    return hash(tuple(opening_texts))
