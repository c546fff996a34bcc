"""One execution, and the context that a Servable sees of it."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Literal

from portico.wire import ErrorBody, Event, Usage
from portico_server.core.context import Listener
from portico_server.core.errors import InvalidRequest
from portico_server.core.event import EventLog
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.request import Request, Result

Status = Literal["queued", "running", "completed", "failed", "cancelled"]

DEPTH = 32
"""How deep runs may call runs: an app that calls itself ends here, with a sentence."""


class Run:
    """What is known of one execution while it lives, and a little longer."""

    __slots__ = (
        "caller",
        "created_at",
        "error",
        "finished_at",
        "first_byte_at",
        "id",
        "kind",
        "log",
        "name",
        "result",
        "started",
        "status",
        "task",
        "usage",
    )

    def __init__(
        self, kind: str, name: str, caller: Principal, run_id: str | None = None, last_event: int = 0
    ) -> None:
        self.id = run_id or new_id("run_")
        self.kind = kind
        self.name = name
        self.caller = caller
        self.status: Status = "running"
        self.created_at = time.time()
        self.started = time.perf_counter()
        self.first_byte_at: float | None = None
        self.finished_at: float | None = None
        self.log = EventLog(last_event)
        self.result: Any = None
        self.error: ErrorBody | None = None
        self.usage = Usage()
        self.task: asyncio.Task[Any] | None = None

    @property
    def ended(self) -> bool:
        return self.status in ("completed", "failed", "cancelled")

    async def cancel(self) -> None:
        """Stop the work and wait until it has stopped."""
        if self.task is not None and not self.task.done():
            self.task.cancel()
            await asyncio.wait([self.task])


class RunContext:
    """`portico_server.core.context.Context` for a run or one of its children."""

    __slots__ = ("_depth", "_listener", "_registry", "_run", "deadline")

    def __init__(
        self, run: Run, registry: Registry, listener: Listener, deadline: float | None, depth: int = 0
    ) -> None:
        self._run = run
        self._registry = registry
        self._listener = listener
        self._depth = depth
        self.deadline = deadline

    @property
    def run(self) -> str:
        return self._run.id

    @property
    def caller(self) -> Principal:
        return self._run.caller

    async def emit(self, event: Event) -> None:
        await self._listener(event)

    async def call(self, name: str, request: Request, *, listener: Listener | None = None) -> Result:
        if self._depth >= DEPTH:
            raise InvalidRequest(
                f"'{name}' was called {DEPTH} levels deep: something calls itself.", code="too_deep"
            )
        servable = await self._registry.resolve(name, self.caller)
        child = RunContext(self._run, self._registry, listener or _nobody, self.deadline, self._depth + 1)
        return await servable.call(request, child)


async def _nobody(_event: Event) -> None:
    """A listener for events that no one asked for."""
