"""Problems found when the daemon starts, listed until their causes are gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from portico.schemas.configuration import Problem
from portico_server.config import Configuration
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError
from portico_server.core.registry import Registry

logger = logging.getLogger(__name__)

Check = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class _Entry:
    problem: Problem
    holds: Check | None
    retry: Check | None

    @property
    def kind(self) -> str:
        return self.problem.place.partition("[")[0].partition(".")[0]


class Problems:
    """The problems of a configuration, in the order of their discovery."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._due = asyncio.Event()
        self._retrying = asyncio.Lock()

    def add(self, problem: Problem, holds: Check | None = None, retry: Check | None = None) -> None:
        """Record a problem.

        ``holds`` returns whether the problem still exists; by default, it does until it is solved. ``retry`` tries to
        remove its cause, and returns whether it succeeded.
        """
        logger.error("%s (%s): %s", problem.place, problem.name or "no name", problem.reason)
        self._entries.append(_Entry(problem, holds, retry))

    async def current(self) -> list[Problem]:
        """Return the problems whose causes still exist, and drop the others."""
        await self._retry()  # models that were added a moment ago can have solved a problem
        for entry in list(self._entries):
            if entry.holds is not None and not await entry.holds():
                self._drop(entry)
        return [entry.problem for entry in self._entries]

    def forget_applied(self, configuration: Configuration) -> None:
        """Drop the problems with entries of an applied ``configuration``, which has been checked as a whole."""
        for entry in list(self._entries):
            kind_names = {spec.name for spec in configuration.of(entry.kind)}
            if entry.problem.name in kind_names or (kind_names and not entry.problem.name):
                self._drop(entry)

    def of_store(self, name: str) -> str | None:
        """Return the problem with a shared store, including its place in the configuration, or ``None``."""
        problems = (e.problem for e in self._entries if e.kind == "stores" and e.problem.name == name)
        return next((f"{problem.place}: {problem.reason}" for problem in problems), None)

    def retry_soon(self) -> None:
        """Retry as soon as possible, because a cause may be gone."""
        self._due.set()

    async def run(self, registry: Registry) -> None:
        """Retry whenever models are added or removed, and after `retry_soon`, until cancelled."""
        registry.watch(lambda kind: self.retry_soon() if kind == "model" else None)
        while True:
            await self._due.wait()
            await self._retry()

    async def _retry(self) -> None:
        async with self._retrying:
            if not self._due.is_set():
                return
            self._due.clear()
            for entry in list(self._entries):
                try:
                    if entry.retry is not None and await entry.retry():
                        self._drop(entry)
                except PorticoError as error:
                    logger.error("%s: %s", entry.problem.place, error.message)

    def _drop(self, entry: _Entry) -> None:
        if entry in self._entries:
            self._entries.remove(entry)
