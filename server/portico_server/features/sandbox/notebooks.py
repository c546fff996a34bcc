"""Sessions: each has one kernel, which is kept while it is used. One spare kernel is started ahead of demand."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import field
from typing import TypeAlias

from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError, TooMany, shutting_down
from portico_server.features.sandbox.protocol import (
    Cell,
    CellOutcome,
    Kernel,
    Report,
    Sandbox,
    SandboxLimits,
)

logger = logging.getLogger(__name__)


RunCell: TypeAlias = Callable[[Cell], Awaitable[CellOutcome]]

Around: TypeAlias = Callable[[RunCell, dict[str, str]], Awaitable[CellOutcome]]
"""A function that has exclusive access to a session and runs cells in it.

The second argument records the files that the session's kernel has; it is empty for a new kernel.
"""


@dataclass(slots=True)
class _Session:
    """One notebook. The task that opens its kernel or runs a cell holds its lock."""

    used: float
    kernel: Kernel | None = None
    laid: dict[str, str] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Notebooks:
    """At most ``limit`` concurrent kernels. Sessions unused for ``idle`` seconds are ended.

    A session belongs to its caller: another caller's session with the same name is a different session. One caller can
    use at most half of all kernels, or all of them if ``is_whole`` is set.
    """

    def __init__(self, sandbox: Sandbox, limits: SandboxLimits, *, limit: int, idle: float) -> None:
        self._sandbox = sandbox
        self._limits = limits
        self._max_notebooks = limit
        self._idle = idle
        self._sessions: dict[tuple[str, str], _Session] = {}
        self._single: Counter[str] = Counter()
        self._spare: asyncio.Task[Kernel] | None = None
        self._spare_used = 0.0
        self._culler: asyncio.Task[None] | None = None
        self._works = False
        self._prepared = False
        self._is_closed = False

    async def missing(self) -> str | None:
        """Return a sentence that says why this machine cannot run code, or ``None`` if it can.

        The machine is checked again until it can.
        """
        if self._works:
            return None
        reason = await pools.FILES.run(self._sandbox.missing)
        self._works = reason is None
        return reason

    async def run(
        self,
        caller: str,
        session: str | None,
        cell: Cell,
        report: Report,
        *,
        is_whole: bool = False,
        around: Around | None = None,
    ) -> CellOutcome:
        """Run a cell in a session of this caller, or without a session name in a temporary kernel.

        ``around`` runs the cell instead of the session itself, with preparation and cleanup. ``report`` receives the
        progress of a long first start. Cancelling stops the cell; the session is kept. Raise `Unavailable` and
        `TooMany`.
        """
        self._require_open()
        await self._sandbox.prepare(report)
        self._prepared = True
        if self._culler is None:
            self._culler = asyncio.create_task(self._cull(), name="idle notebooks")
        try:
            if session is None:
                return await self._once(caller, cell, is_whole)
            return await self._in_session((caller, session), cell, is_whole, around)
        finally:
            self._refill()

    async def end(self, caller: str, session: str) -> None:
        """End a session of this caller, if it exists."""
        if (caller, session) in self._sessions:
            await self._end((caller, session))

    async def revoke(self, caller: str) -> None:
        """End every session of a caller whose key was revoked, including processes that its code left running."""
        caller_keys = [key for key in self._sessions if key[0] == caller]
        await asyncio.gather(*map(self._end, caller_keys))

    async def close(self) -> None:
        """Stop every kernel."""
        self._is_closed = True
        for task in (self._culler, self._spare):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        await self._drop_spare()
        for session in tuple(self._sessions.values()):
            if session.kernel is not None:
                await session.kernel.stop()
        self._sessions.clear()

    async def _once(self, caller: str, cell: Cell, is_whole: bool) -> CellOutcome:
        await self._evict(caller, is_whole)
        self._single[caller] += 1
        try:
            kernel = await self._take()
            try:
                return await kernel.run(cell)
            finally:
                await kernel.stop()
        finally:
            self._single[caller] -= 1
            if not self._single[caller]:
                del self._single[caller]

    async def _in_session(
        self, key: tuple[str, str], cell: Cell, is_whole: bool, around: Around | None
    ) -> CellOutcome:
        if key not in self._sessions:
            await self._evict(key[0], is_whole)
        session = self._sessions.setdefault(key, _Session(self._clock()))
        async with session.lock:
            if session.kernel is None or not session.kernel.alive:
                try:
                    session.kernel, session.laid = await self._take(), {}
                except BaseException:
                    self._sessions.pop(key, None)
                    raise
            # The session may have been removed while we waited for the lock.
            self._sessions[key] = session
            session.used = self._clock()
            try:
                if around is not None:
                    return await around(session.kernel.run, session.laid)
                return await session.kernel.run(cell)
            finally:
                session.used = self._clock()
                if not session.kernel.alive:
                    await session.kernel.stop()
                    self._sessions.pop(key, None)

    async def _evict(self, caller: str, is_whole: bool) -> None:
        """Make room for another kernel of this caller, if necessary by ending an idle session.

        Sessions of the caller itself are ended first; among the candidates, the least recently used session is ended.
        """
        share = self._max_notebooks if is_whole else max(1, self._max_notebooks // 2)
        while True:
            caller_keys = [key for key in self._sessions if key[0] == caller]
            at_share = len(caller_keys) + self._single[caller] >= share
            if not at_share and len(self._sessions) + self._single.total() < self._max_notebooks:
                return
            resting = [key for key in caller_keys if not self._sessions[key].lock.locked()]
            if not resting and not at_share:
                resting = [key for key, session in self._sessions.items() if not session.lock.locked()]
            if not resting:
                subject = (
                    f"The {share} notebooks that one key can use"
                    if at_share
                    else f"All {self._max_notebooks} notebooks"
                )
                raise TooMany(
                    f"{subject} are busy. Try again when one of them has finished, or raise the setting "
                    "'notebooks'.",
                    code="notebooks_busy",
                    retry_after=5,
                )
            await self._end(min(resting, key=lambda key: self._sessions[key].used))

    async def _end(self, key: tuple[str, str]) -> None:
        session = self._sessions.pop(key)
        async with session.lock:
            if session.kernel is not None:
                await session.kernel.stop()
                session.kernel = None

    async def _take(self) -> Kernel:
        """Return the spare kernel if there is one, otherwise a new kernel."""
        task, self._spare = self._spare, None
        if task is not None:
            try:
                kernel = await task
                if kernel.alive:
                    return kernel
                await kernel.stop()
            except PorticoError as error:
                logger.warning("the spare notebook did not start: %s", error)
        self._require_open()
        return await self._sandbox.open(self._limits)

    def _refill(self) -> None:
        self._spare_used = self._clock()
        if self._spare is None and not self._is_closed and self._prepared:
            self._spare = asyncio.create_task(self._sandbox.open(self._limits), name="spare notebook")

    async def _drop_spare(self) -> None:
        task, self._spare = self._spare, None
        if task is None:
            return
        await asyncio.wait([task])
        try:
            kernel = task.result()
        except (
            PorticoError,
            asyncio.CancelledError,
        ):  # the spare kernel's own cancellation; a cancellation of this task still propagates
            return
        await kernel.stop()

    async def _cull(self) -> None:
        """End sessions that have been idle for too long, until cancelled."""
        while True:
            await asyncio.sleep(min(30.0, max(0.05, self._idle / 4)))
            before = self._clock() - self._idle
            for key, session in tuple(self._sessions.items()):
                if session.used < before and not session.lock.locked():
                    await self._end(key)
            if self._spare is not None and self._spare.done() and self._spare_used < before:
                await self._drop_spare()

    def _require_open(self) -> None:
        if self._is_closed:
            raise shutting_down()

    @staticmethod
    def _clock() -> float:
        return asyncio.get_running_loop().time()
