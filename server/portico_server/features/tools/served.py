"""Functions of clients as tools: the daemon calls them, and the client executes them."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any, Final, TypeAlias

from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, DeadlineExceeded, InvalidRequest, NotFound, TooMany
from portico_server.core.names import check_plain
from portico_server.core.principal import Principal
from portico_server.core.question import NewQuestion, function_name
from portico_server.core.registry import owner_of
from portico_server.core.request import ToolCall, ToolResult
from portico_server.features.tools.entry import Rule
from portico_server.features.tools.outcome import outcome
from portico_server.features.tools.tool import Tool
from portico_server.features.tools.toolbox import Toolbox

SILENCE_TIMEOUT_S: Final = 45.0
"""Seconds of silence after which a worker counts as gone. Each claim ends the silence."""

RECONNECT_TIMEOUT_S: Final = 10.0
"""Seconds that a worker has to reconnect after its connection was lost in the middle of a claim."""

FUNCTION_LIFETIME_S: Final = 60.0
"""Seconds that a function is kept, and waited for, after its last worker was lost.

A worker that leaves explicitly removes its functions immediately.
"""

SWEEP_INTERVAL_S: Final = 5.0
"""Seconds between checks for lost workers and functions."""

MAX_WORKERS_PER_KEY: Final = 256
"""Maximum number of workers per key."""

MAX_FUNCTIONS_PER_KEY: Final = 1_000
"""Maximum number of functions that all workers of one key serve together. Each function appears in lists of tools."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class ServedFunctionSpec:
    """A function that a worker serves. ``timeout`` is in seconds per call, including the wait for a free worker."""

    name: str
    description: str
    input_schema: dict[str, Any]
    read_only: bool = False
    destructive: bool = False
    timeout: float = 60.0
    approval: Rule = ""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker as clients see it. ``seen`` is when it was last active, in seconds since 1970."""

    name: str
    owner: str
    functions: Sequence[str]
    seen: float


@dataclass(slots=True)
class _Worker:
    owner: str
    name: str
    functions: dict[str, ServedFunctionSpec]
    heard: float
    named: str | None
    """Owner of the names of the worker's functions; ``None`` if the functions are shared."""


Named: TypeAlias = tuple[str | None, str]
"""A function: the owner of its name (``None`` if the function is shared), and the name."""


@dataclass(slots=True)
class _Offered:
    """A function in the toolbox.

    ``owner`` is the key whose workers can serve the function; ``lost`` is when the last worker was lost.
    """

    owner: str
    workers: set[tuple[str, str]] = field(default_factory=set)
    lost: float = 0.0


class ServedTools:
    """Workers by (key, name), and the functions that are tools while a worker serves them.

    A function that an admin serves is shared with every key that has the scope. Any other function is private to the
    key that serves it, and other keys can use its name for their own functions. ``clock`` returns seconds.
    """

    def __init__(self, toolbox: Toolbox, clock: Callable[[], float] = time.monotonic) -> None:
        self._toolbox = toolbox
        self._clock = clock
        self._workers: dict[tuple[str, str], _Worker] = {}
        self._offers: dict[Named, _Offered] = {}

    async def run(self) -> None:
        """Remove lost workers, and functions without workers, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            self.sweep()

    def join(self, caller: Principal, worker: str, functions: Sequence[ServedFunctionSpec]) -> list[str]:
        """Add a worker, or update its functions. Return the names of the worker's tools.

        Raise `Conflict` if a shared name is in use by another resource or another admin's function, `Forbidden` if the
        caller cannot call a function that it wants to serve, `InvalidRequest` for an invalid name or schema.
        """
        from portico_server.core.json_schema import require_schema

        check_plain(worker, "a worker", "worker")
        owner = owner_of(caller)
        for number, function in enumerate(functions):
            if not _NAME.fullmatch(function.name):
                raise InvalidRequest(
                    f"'{function.name}' is not a valid name for a function: use up to 64 letters, digits, "
                    "'_' and '-'.",
                    param=f"functions[{number}].name",
                )
            require_schema(function.name, function.input_schema, f"functions[{number}].input_schema")
            caller.require(f"tools:{function.name}:call")
            current_offer = self._offers.get((owner, function.name))
            if current_offer is not None and current_offer.owner != caller.id:
                raise _conflict(f"Another key already serves a function '{function.name}'.")
        self._check_free([function.name for function in functions], owner)
        self._check_room(caller.id, worker, {(owner, function.name) for function in functions})
        self.leave(caller, worker, stay={(owner, function.name) for function in functions})
        key = (caller.id, worker)
        function_specs = {function.name: function for function in functions}
        self._workers[key] = _Worker(caller.id, worker, function_specs, self._clock(), owner)
        for function in functions:
            self._toolbox.add(self._tool(function, owner), function.approval, replace=True)
            self._offers.setdefault((owner, function.name), _Offered(caller.id)).workers.add(key)
        return list(function_specs)

    def note_worker(self, caller: Principal, worker: str) -> list[str]:
        """Record a worker's activity. Return the names of the questions that the worker can claim.

        Raise `NotFound` if the worker is unknown or was removed: then it must join again.
        """
        known_worker = self._workers.get((caller.id, worker))
        if known_worker is None:
            raise NotFound(
                f"The worker '{worker}' does not exist (the daemon may have been restarted). Join again.",
                code="worker_not_found",
                param="worker",
            )
        known_worker.heard = self._clock()
        return [function_name(name, known_worker.named) for name in known_worker.functions]

    def broke_off(self, caller: Principal, worker: str) -> None:
        """Record that a worker's connection was lost in the middle of a claim. The worker reconnects soon, or counts
        as gone.
        """
        known_worker = self._workers.get((caller.id, worker))
        if known_worker is not None:
            known_worker.heard = min(
                known_worker.heard, self._clock() - SILENCE_TIMEOUT_S + RECONNECT_TIMEOUT_S
            )

    def leave(self, caller: Principal, worker: str, *, stay: set[Named] | None = None) -> None:
        """Remove a worker that leaves, and the functions that no other worker serves, except those in ``stay``."""
        known_worker = self._workers.pop((caller.id, worker), None)
        if known_worker is None:
            return
        for name in self._forget(known_worker):
            if name not in (stay or ()):
                self._withdraw(name)

    def workers_of(self, key: str) -> list[str]:
        """Return the names of a key's workers."""
        return [worker.name for worker in self._workers.values() if worker.owner == key]

    def claimable_questions(self, caller: Principal) -> frozenset[str]:
        """Return the names of questions from any key that the caller's workers can answer."""
        return frozenset(
            function_name(name, worker.named)
            for worker in self._workers.values()
            if worker.owner == caller.id
            for name in worker.functions
        )

    def every(self, caller: Principal) -> list[WorkerInfo]:
        """Return the caller's workers, or all workers for an admin, by name."""
        workers = [worker for worker in self._workers.values() if caller.sees(worker.owner)]
        now, wall = self._clock(), time.time()
        return [
            WorkerInfo(worker.name, worker.owner, sorted(worker.functions), wall - (now - worker.heard))
            for worker in sorted(workers, key=lambda worker: worker.name)
        ]

    def sweep(self) -> None:
        """Remove silent workers, and functions that have had no worker for a while."""
        now = self._clock()
        for key, worker in list(self._workers.items()):
            if now - worker.heard > SILENCE_TIMEOUT_S:
                del self._workers[key]
                for name in self._forget(worker):
                    self._offers[name].lost = now
        for name, offer in list(self._offers.items()):
            if not offer.workers and now - offer.lost > FUNCTION_LIFETIME_S:
                self._withdraw(name)

    def _forget(self, worker: _Worker) -> list[Named]:
        """Remove the worker. Return the functions that no other worker serves."""
        abandoned_names = []
        for name in worker.functions:
            offer = self._offers[worker.named, name]
            offer.workers.discard((worker.owner, worker.name))
            if not offer.workers:
                abandoned_names.append((worker.named, name))
        return abandoned_names

    def _withdraw(self, function_key: Named) -> None:
        del self._offers[function_key]
        owner, name = function_key
        self._toolbox.remove(name, owner)

    def _check_free(self, names: Sequence[str], owner: str | None) -> None:
        if len(set(names)) < len(names):
            raise InvalidRequest("Two functions have the same name.", param="functions")
        for name in names:
            if (owner, name) in self._offers:
                continue
            self._toolbox.require_unreserved(name, owner)
            if self._toolbox.has(name):
                raise _conflict(f"A tool '{name}' already exists.")

    def _check_room(self, key: str, worker: str, nameds: set[Named]) -> None:
        """Raise `TooMany` if the key would exceed its maximum of workers or functions."""
        workers = [
            served_worker
            for served_worker in self._workers.values()
            if served_worker.owner == key and served_worker.name != worker
        ]
        served_names = {name for name, offer in self._offers.items() if offer.owner == key}
        served_names -= {
            name for name in served_names if self._offers[name].workers == {(key, worker)}
        }  # without the functions that this worker served before, if it joins again
        if len(workers) >= MAX_WORKERS_PER_KEY or len(served_names | nameds) > MAX_FUNCTIONS_PER_KEY:
            raise TooMany(
                f"One key can have at most {MAX_WORKERS_PER_KEY} workers, which serve at most "
                f"{MAX_FUNCTIONS_PER_KEY:,} functions together. Remove a worker first.",
                code="too_many_workers",
                param="functions",
                retry_after=SILENCE_TIMEOUT_S,
            )

    def _tool(self, function: ServedFunctionSpec, owner: str | None) -> Tool:
        async def work(call: ToolCall, context: Context) -> ToolResult:
            return await self._ask(function, owner, call, context)

        return Tool(
            name=function.name,
            title=function.name,
            description=function.description or f"The function {function.name} of a client.",
            input_schema=function.input_schema,
            keyed=work,
            read_only=function.read_only,
            destructive=function.destructive,
            open_world=True,
            source="client",
            owner=owner,
        )

    async def _ask(
        self, function: ServedFunctionSpec, owner: str | None, call: ToolCall, context: Context
    ) -> ToolResult:
        question = NewQuestion(
            "function",
            function_name(function.name, owner),
            f"Call of the function '{function.name}'.",
            arguments=call.arguments,
            key=f"{call.key}/function" if call.key else "",
            limit=function.timeout,
            served=True,
        )
        try:
            answer = await context.ask(question)
        except DeadlineExceeded as late:
            if late.code != "question_expired":
                raise
            offer = self._offers.get((owner, function.name))
            problem = (
                "The client that serves it did not respond"
                if offer is not None and offer.workers
                else "No client that serves it was connected"
            )
            return ToolResult(
                f"'{function.name}' was not executed: {problem} within {function.timeout:g} s.", is_error=True
            )
        if not answer.accepted:
            return ToolResult(answer.note or f"'{function.name}' failed on the client.", is_error=True)
        return outcome(answer.value)


def _conflict(reason: str) -> Conflict:
    return Conflict(f"{reason} Choose another name.", code="name_taken", param="functions")
