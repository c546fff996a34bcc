"""The replicas of one deployment: chooses which process handles a call, and presents all processes as one."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Container, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from hashlib import blake2b

from portico.schemas.deployments import Replica
from portico_server.core.context import Context
from portico_server.core.errors import DeadlineExceeded, EngineFailed, PorticoError, TooMany, Unavailable
from portico_server.core.relay import Relay
from portico_server.models.fallback import FALLBACK_STATUSES
from portico_server.models.in_flight import InFlightCall
from portico_server.models.openai_wire import PASSING_STATUSES, UpstreamFailed
from portico_server.models.process import ModelProcess
from portico_server.models.protocol import RunningEngine
from portico_server.models.sources.source import parse_source
from portico_server.models.spec import State
from portico_server.models.startup_progress import EmitEvent

QUEUE_FULL_RETRY_S = 2.0
"""Seconds after which a caller can retry when the queue is full."""

MAX_EXTRA_CALLS = 2
"""Number of additional calls that a conversation's own process can have, compared with the least busy process."""

MAX_CONVERSATIONS = 4_096
"""Maximum number of conversations for which the pool remembers the process."""

OPENING_CHARS = 2_000
"""Number of characters of a message that identify a conversation."""

MAX_CRASHES = 2
"""Number of processes that may end during one call. A request that ends each process it gets reaches no third one."""

_CRASHES = frozenset({"engine_crashed", "engine_lost"})
"""Codes of the errors of a call during which the engine's process ended."""

_BEST_FIRST: tuple[State, ...] = ("ready", "loading", "downloading", "failed", "cold")


class ReplicaPool:
    """One or more `ModelProcess`, in the order of the spec. ``queue_limit`` applies to all together; 0 means no limit.

    A call goes to the least busy running process. A chat goes to the process that answered its beginning, which has
    that beginning in its prompt cache, unless that process has more than `MAX_EXTRA_CALLS` additional calls. The first
    call starts one process with the memory it needs. Once that process runs, the others are started if free memory
    suffices, and no call waits for them.

    If all processes are servers with an address, a hash of the chat and the address chooses the server instead, so
    that each daemon chooses the same one.
    """

    def __init__(self, name: str, model_processes: Sequence[ModelProcess], queue_limit: int) -> None:
        self.processes = tuple(model_processes)
        self._name = name
        self._queue_limit = queue_limit
        self._by_opening: OrderedDict[bytes, ModelProcess] = OrderedDict()
        self._addresses = _addresses(self.processes)

    @property
    def calls(self) -> int:
        """Return the number of calls that wait for a process or are being answered."""
        return sum(process.turns.calls for process in self.processes)

    def enter(self, request: Relay) -> ReplicaLease:
        """Return a lease for a new call. The caller must call `ReplicaLease.leave` at the end.

        Raise `TooMany` if the queue is full.
        """
        if self._queue_limit and (calls := self.calls) >= self._queue_limit:
            raise TooMany(
                f"'{self._name}' already has {calls} calls, the limit of its queue. Try again later, or "
                "raise 'queue_limit'.",
                code="queue_full",
                retry_after=QUEUE_FULL_RETRY_S,
            )
        if len(self.processes) == 1:
            return ReplicaLease(self, self.processes[0])
        opening = _opening(request)
        return ReplicaLease(self, self._choose(opening), opening)

    def _choose(self, opening: bytes | None) -> ModelProcess:
        able = self._candidates()
        self.wake()
        least = self._preferred(able, opening)
        if opening is None or self._addresses:
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

    def _preferred(self, able: list[ModelProcess], opening: bytes | None) -> ModelProcess:
        """Return the least busy process; for a chat with servers, the server with the highest hash that is not much
        busier.
        """
        least = _least_busy(able)
        if opening is None or not self._addresses:
            return least
        limit = least.turns.calls + MAX_EXTRA_CALLS
        return max(
            (process for process in able if process.turns.calls <= limit),
            key=lambda process: blake2b(opening + self._addresses[process], digest_size=16).digest(),
        )

    def wake(self) -> None:
        """Start all processes once one of them is running."""
        if len(self.processes) > 1 and any(process.is_ready for process in self.processes):
            for process in self.processes:
                process.wake()

    def _candidates(self) -> list[ModelProcess]:
        """Return the processes that can answer soonest: running ones, otherwise starting ones, otherwise the first.

        A process that has failed is left out for a while, unless no other process runs. Servers count as running
        until a start fails, because their start takes no time.
        """
        running = _healthy(
            [
                process
                for process in self.processes
                if process.is_ready or (process in self._addresses and process.launch.error is None)
            ]
        )
        return running or [process for process in self.processes if process.starting] or [self.processes[0]]

    def another(
        self, tried_processes: Container[ModelProcess], opening: bytes | None = None
    ) -> ModelProcess | None:
        """Return a process for a call that the processes in ``tried_processes`` could not answer: a running one,
        otherwise a starting one.
        """
        processes = [process for process in self.processes if process not in tried_processes]
        able = _healthy([process for process in processes if process.is_ready])
        able = able or [process for process in processes if process.starting]
        return self._preferred(able, opening) if able else None

    def record_failure(self, process: ModelProcess, error: PorticoError) -> None:
        """Leave a process out for a while. Its conversations continue at other processes."""
        process.health.fail(error)
        for opening in [key for key, home in self._by_opening.items() if home is process]:
            del self._by_opening[opening]

    async def load(self, emit: EmitEvent) -> RunningEngine:
        """Start all processes and wait until every start has ended. Raise the error if the first start fails."""
        running = await self._candidates()[0].load(emit)
        self.wake()
        starts = [process.launch.task for process in self.processes if process.launch.task is not None]
        if starts:
            await asyncio.wait(starts)
        return running

    async def unload(self, *, drain: float | None) -> None:
        """Stop all processes after the current calls have ended, or after ``drain`` seconds."""
        await asyncio.gather(*(process.unload(drain=drain) for process in self.processes))

    async def close(self) -> None:
        """Stop all processes immediately and permanently."""
        await asyncio.gather(*(process.close() for process in self.processes))

    @property
    def state(self) -> State:
        """Return the best state among all processes."""
        states = {process.state for process in self.processes}
        return next(state for state in _BEST_FIRST if state in states)

    @property
    def running(self) -> RunningEngine | None:
        """Return the first engine that currently runs."""
        return next((process.running for process in self.processes if process.running is not None), None)

    @property
    def pid(self) -> int | None:
        return next((process.pid for process in self.processes if process.pid is not None), None)

    @property
    def memory(self) -> int | None:
        """Return the bytes that all processes use; ``None`` without a process."""
        sizes = [size for process in self.processes if (size := process.memory) is not None]
        return sum(sizes) if sizes else None

    @property
    def error(self) -> PorticoError | None:
        """Return the first process's error, in the order of the spec, or ``None``."""
        return next(
            (process.launch.error for process in self.processes if process.launch.error is not None), None
        )

    @property
    def used_at(self) -> float | None:
        return max((process.used_at for process in self.processes if process.used_at), default=None)

    @property
    def loaded_at(self) -> float | None:
        """Return when the first of the running processes was loaded, or ``None``."""
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
        """Return since when all processes have been idle; ``None`` if one is busy or none exists."""
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
        """Return information about each process; empty if there is only one process."""
        if len(self.processes) == 1:
            return ()
        return tuple(_replica(process) for process in self.processes)

    def log(self, lines: int) -> list[str]:
        """Return the last lines of the logs, prefixed with the process number if there are several processes."""
        if len(self.processes) == 1:
            return self.processes[0].slot.log(lines)
        return [
            f"[{number}] {line}"
            for number, process in enumerate(self.processes, 1)
            for line in process.slot.log(lines // len(self.processes) or 1)
        ]


class ReplicaLease:
    """A call's lease of a process, from the call's arrival to the end of its answer.

    A call whose process fails before the first byte moves to each other process once.
    """

    __slots__ = (
        "_call",
        "_crashes",
        "_doubts",
        "_errors",
        "_opening",
        "_pool",
        "_process",
        "_tried_processes",
    )

    def __init__(self, pool: ReplicaPool, process: ModelProcess, opening: bytes | None = None) -> None:
        self._pool = pool
        self._process = process
        self._opening = opening
        self._call: InFlightCall = process.enter()
        self._tried_processes = {process}
        self._crashes = 0
        self._errors: list[PorticoError] = []
        self._doubts: list[tuple[ModelProcess, PorticoError]] = []
        """Failures that the request may have caused. They count once another process answers the request."""

    @property
    def process(self) -> ModelProcess:
        """Return the process that handles this call."""
        return self._process

    async def engine(self, emit: EmitEvent) -> RunningEngine:
        """Return the running engine, and start it if necessary. If the start fails, use another running process."""
        while True:
            try:
                running = await self._process.engine(self._call, emit)
            except PorticoError as error:
                self._call.leave()
                if not self._move():
                    raise error.without_folders() from error
            else:
                self._pool.wake()
                return running

    def watch_call(self) -> AbstractAsyncContextManager[None]:
        """Return a context in which the process is watched until it has sent the first byte."""
        return self._process.health.watch_call(is_movable=self._can_move)

    def prepared(self, request: Relay, running: RunningEngine, context: Context) -> Relay:
        """Return the request for the engine ``running``."""
        if running.remembers:
            request = replace(request, caller=context.caller.id)
        return replace(request, fails_fast=True) if self._can_move else request

    @property
    def _can_move(self) -> bool:
        return self._pool.another(self._tried_processes) is not None

    async def move(self, running: RunningEngine, error: BaseException, context: Context) -> RunningEngine:
        """Return the engine of another process for a call that ``running`` did not answer. Each process is tried once.

        Raise the error if no other process can answer. The call has ended then.
        """
        self.leave(running, error)
        if not isinstance(error, PorticoError):
            raise error
        self._errors.append(error)
        if not (self._concerns_process(error) and self._move()):
            raise _most_useful(self._errors) from error
        try:
            return await self.engine(context.emit)
        except BaseException as failure:
            self.leave()
            raise (self._errors[0] if isinstance(failure, PorticoError) else failure) from failure

    def record_answer(self) -> None:
        """Record that the process has sent the first byte."""
        self._process.health.recover()
        for process, doubt in self._doubts:
            self._pool.record_failure(process, doubt)

    def _concerns_process(self, error: PorticoError) -> bool:
        """Return whether another process may answer the call, and record a failure of the process."""
        if isinstance(error, DeadlineExceeded):
            return False
        if error.code in _CRASHES:
            self._crashes += 1
        if isinstance(error, UpstreamFailed) and error.upstream not in PASSING_STATUSES:
            self._doubts.append((self._process, error))
        elif isinstance(error, EngineFailed | Unavailable):
            self._pool.record_failure(self._process, error)
        elif error.status in FALLBACK_STATUSES:
            self._doubts.append((self._process, error))
        else:
            return False
        return self._crashes < MAX_CRASHES

    def _move(self) -> bool:
        """Enter another process, if there is one that this call has not tried."""
        process = self._pool.another(self._tried_processes, self._opening)
        if process is None:
            return False
        self._tried_processes.add(process)
        self._process, self._call = process, process.enter()
        return True

    def leave(self, running: RunningEngine | None = None, error: BaseException | None = None) -> None:
        """End a call that used ``running``, or a call that never got an engine. Can be called more than once."""
        if running is None:
            self._call.leave()
        else:
            self._process.leave(self._call, running, error)


def _least_busy(processes: Iterable[ModelProcess]) -> ModelProcess:
    return min(processes, key=lambda process: (process.turns.calls, process.last_used))


def _healthy(processes: list[ModelProcess]) -> list[ModelProcess]:
    """Return the processes that accept calls; all of them if none does."""
    return [process for process in processes if process.health.accepts(process.turns.calls)] or processes


def _most_useful(errors: list[PorticoError]) -> PorticoError:
    """Return the error of a server that is only busy or refuses, otherwise the first error."""
    return next((error for error in errors if error.status < 500), errors[0])


def _replica(process: ModelProcess) -> Replica:
    """Return what the daemon shows about one of several processes."""
    error = process.launch.error or process.health.error
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


def _addresses(processes: Sequence[ModelProcess]) -> dict[ModelProcess, bytes]:
    """Return the address of each server; empty unless all processes are servers that each daemon reaches."""
    sources = {process: parse_source(process.spec.source) for process in processes}
    if any(source.scheme not in ("http", "https") for source in sources.values()):
        return {}
    return {process: str(source).encode() for process, source in sources.items()}


def _opening(request: Relay) -> bytes | None:
    """Return a hash of a conversation's unchanging beginning: its messages up to the first user message.

    Each daemon computes the same hash.
    """
    if request.operation != "chat/completions":
        return None
    opening_texts = [
        request.adapter.name if request.adapter is not None else ""
    ]  # requests with different adapters share no prompt cache
    for message in request.body.get("messages") or ():
        content = message.get("content")
        opening_texts.append(
            content[:OPENING_CHARS] if isinstance(content, str) else str(content)[:OPENING_CHARS]
        )
        if message.get("role") == "user":
            break
    return blake2b("\0".join(opening_texts).encode("utf-8", "surrogatepass"), digest_size=16).digest()
