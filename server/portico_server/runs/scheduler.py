"""Durable work: queued in SQL, held by a lease, resumed after a crash."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

from portico.wire import Asked, Delta, Finished, Usage, event_to_json
from portico_server.core import trace
from portico_server.core.binding import BOUND, BoundNames
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Forbidden, PorticoError, TooMany
from portico_server.core.ids import new_id
from portico_server.core.principal import LOCAL, SYSTEM, Principal
from portico_server.db import runs
from portico_server.db.database import Database
from portico_server.db.runs import Beginning, NewRun, RunRow
from portico_server.runs.run import Run
from portico_server.runs.runner import Runner
from portico_server.runs.turns import RunTurns

logger = logging.getLogger(__name__)

LEASE_S = 30.0
"""Seconds after which another daemon can take over a run whose daemon does not renew its lease."""

MAX_ATTEMPTS = 5
"""Maximum number of attempts of a run. If it is interrupted again, it counts as failed."""

LEASE_MARGIN_S = 5.0
"""Seconds before the end of a lease from which the lease is checked before every write."""

WRITE_INTERVAL_S = 0.02
"""Seconds between two writes of a run's events, so that many events are written together."""

MAX_CLOCK_STEP_S = 2.0
"""Difference, in seconds, between the clock and the elapsed time above which the clock counts as changed."""

MAX_WAITING_EVENTS = 4_096
"""Maximum number of events that a run can be ahead of its journal."""

LAST_EVENT = Finished(None)

T = TypeVar("T")

Handler: TypeAlias = Callable[[Mapping[str, Any], Context], Awaitable[Any]]


Principals: TypeAlias = Callable[[str], Principal]
"""A function that returns the current caller for an owner's id. Raises `PorticoError` if the owner's key was
revoked.
"""


@dataclass(frozen=True, slots=True)
class RunKind:
    """How runs of a kind are executed.

    ``concurrency``: maximum number of concurrent runs. ``shared``: runs of the same name can be concurrent. ``owned``:
    runs have the rights of their owner instead of the daemon's. ``bound``: names keep the meaning that they had when
    the run started; always true if ``owned``. ``lent``: runs have the daemon's rights, but only as long as the key for
    which they work exists.
    """

    handler: Handler
    concurrency: int = 1
    shared: bool = False
    owned: bool = False
    bound: bool = False
    lent: bool = False


def _clock_lead() -> float:
    """Return the seconds between the system's clock, which can be set, and the monotonic clock."""
    return time.time() - time.monotonic()


def _daemon_id(owner: str) -> Principal:
    return LOCAL if owner == LOCAL.id else SYSTEM


def new_run(kind: str, name: str, payload: Mapping[str, Any], owner: str, run_id: str = "") -> NewRun:
    """Return a new run that the current task starts, with the task's trace and the current meaning of names."""
    span, names = trace.CURRENT.get(), BOUND.get()
    return NewRun(
        run_id or new_id("run_"),
        kind,
        name,
        owner,
        payload,
        None if span is None else span.headers(),
        None if names is None else dict(names.known),
    )


class Scheduler:
    """Runs handlers by kind (see `RunKind`).

    A handler must be idempotent: after an interruption, it starts again from the beginning. ``principals`` is injected
    by the composition root, which knows the keys. ``per_key``: the maximum number of unfinished runs of each kind per
    key; 0 means no limit.
    """

    def __init__(self, database: Database, runner: Runner, per_key: Mapping[str, int] | None = None) -> None:
        self._database = database
        self._runner = runner
        self._kinds: dict[str, RunKind] = {}
        self._per_key = per_key or {}
        self.principals: Principals = _daemon_id
        self._running: dict[str, tuple[RunRow, Run]] = {}
        self._turns = RunTurns()
        self._wake = asyncio.Event()
        self.holder = f"{os.uname().nodename}:{os.getpid()}:{os.urandom(4).hex()}"
        """The name under which this daemon holds its runs."""
        self._renewed_at = 0.0
        self._ahead = _clock_lead()
        self.sure_until = 0.0
        """The time, by `time.monotonic`, until which no other daemon can have taken any of this daemon's runs."""
        self._watchers: set[asyncio.Task[None]] = set()
        self._stopping = False

    @property
    def owned_kinds(self) -> frozenset[str]:
        """Return the kinds of runs that keys can start. Each kind has a limit per key."""
        return frozenset(name for name, kind in self._kinds.items() if kind.owned)

    def handle(
        self,
        kind: str,
        handler: Handler,
        *,
        concurrency: int = 1,
        is_shared: bool = False,
        is_owned: bool = False,
        bound: bool = False,
        lent: bool = False,
    ) -> None:
        """Register the handler of a kind, and how runs of the kind are executed (see `RunKind`)."""
        self._kinds[kind] = RunKind(handler, concurrency, is_shared, is_owned, is_owned or bound, lent)

    async def begin(
        self,
        kind: str,
        name: str,
        payload: Mapping[str, Any],
        caller: Principal,
        *,
        full: bool = True,
        write: Beginning = runs.begin,
    ) -> Run:
        """Start a run now, bypassing the queue. The run's row is written first.

        ``full``: the row and the run's end survive a power cut. Raise `TooMany` if the caller has reached its maximum
        number of runs of the kind.
        """
        write_row = self._database.write if full else self._database.write_soon
        bounded_write = self.within_share(kind, caller, write)
        row = await write_row(bounded_write, new_run(kind, name, payload, caller.id), self.holder, LEASE_S)
        return self._launch(row, caller, 0, full=full)

    async def adopt(
        self, run: Run, kind: str, name: str, payload: Mapping[str, Any], *, full: bool = True
    ) -> RunRow:
        """Add a row for a run in memory, so that the run is resumed after an interruption. Raises the same errors as
        `begin`.
        """
        write_row = self._database.write if full else self._database.write_soon
        with trace.at(run.trace):
            new = new_run(kind, name, payload, run.owner, run.id)
        bounded_write = self.within_share(kind, run.caller, runs.begin)
        writing = asyncio.ensure_future(write_row(bounded_write, new, self.holder, LEASE_S))
        try:
            row = await asyncio.shield(writing)
        except asyncio.CancelledError:
            self._hold(await writing, run, full=full)  # hold the run, so that its row records how it ended
            raise
        self._hold(row, run, full=full)
        return row

    def within_share(self, kind: str, caller: Principal, write: Callable[..., T]) -> Callable[..., T]:
        """Return a function that calls ``write`` after a check in the same transaction.

        The check raises `TooMany` if the caller has reached its maximum number of runs of the kind.
        """
        limit = self._per_key.get(kind, 0)
        if not limit or caller.admin:
            return write

        def run_bounded(connection: Any, *arguments: Any) -> T:
            if not runs.may_begin(connection, kind, caller.id, limit):
                raise TooMany(
                    f"This API key has {limit:,} unfinished runs of the kind '{kind}', the maximum for one "
                    f"key (the setting {kind}_per_key). Wait for a run to end, answer its question, or "
                    "cancel it.",
                    code="too_many_unfinished",
                    retry_after=5.0,
                )
            return write(connection, *arguments)

        return run_bounded

    def names(self, row: RunRow) -> BoundNames | None:
        """Return the names that are bound in a run. Each name that the run looks up later is recorded before it is
        called.
        """
        if not self._kinds[row.kind].bound:
            return None

        async def keep(names: Mapping[str, str]) -> None:
            await self._database.write_soon(runs.bind, row.id, names)

        return BoundNames(row.bound, keep)

    async def again(self, row: RunRow, caller: Principal, payload: Mapping[str, Any] | None = None) -> bool:
        """Queue an ended run again, to resume from its journal. Return whether it had ended. Raises the same errors as
        `begin`.
        """
        requeue = self.within_share(row.kind, caller, runs.requeue_ended)
        is_queued = await self._database.write(requeue, row.id, payload)
        self._wake.set()
        return is_queued

    async def ensure(
        self, kind: str, name: str, payload: Mapping[str, Any] | None = None, *, caller: Principal = SYSTEM
    ) -> str:
        """Queue a run unless a run with this kind and name is already waiting. Return the run's id."""
        run_id = await self._database.write(runs.ensure, new_run(kind, name, payload or {}, caller.id))
        self._wake.set()
        return run_id

    def check_leases(self) -> None:
        """Check immediately which leases this daemon still has: a run was cancelled, perhaps one of this daemon's
        runs.
        """
        if self._running:
            self._renewed_at = float("-inf")
            self._wake.set()

    def look(self) -> None:
        """Check the queue now, because another component queued a run."""
        self._wake.set()

    @property
    def fence(self) -> str:
        """Return the holder that must have a run's lease for a write to count; empty while no other daemon can
        have it.
        """
        return "" if time.monotonic() < self.sure_until else self.holder

    @property
    def stopping(self) -> bool:
        """Return whether the daemon is stopping. Runs that are interrupted then are left to the next daemon."""
        return self._stopping

    async def wait_for_end(self, run_id: str) -> None:
        """Wait until the end of a run that ends in this daemon is stored in the run's row."""
        name = f"journal {run_id}"
        watchers = [watcher for watcher in self._watchers if watcher.get_name() == name]
        if watchers:
            await asyncio.wait(watchers)

    async def run(self, *, is_alone: bool) -> None:
        """Work until cancelled. ``is_alone``: no other daemon shares the database, so leases from before the start are
        void.
        """
        is_released = not is_alone
        try:
            while True:
                self._wake.clear()
                try:
                    if not is_released:
                        await self._database.write(runs.release_all, self.holder)
                        is_released = True
                    while await self._take_one():
                        pass
                    await self._renew()
                except PorticoError as error:
                    logger.error("the run queue could not be read: %s", error.message)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LEASE_S / 3):
                        await self._wake.wait()
        finally:
            self._stopping = True  # runs that are cancelled from now on go back into the queue
            for _row, run in tuple(self._running.values()):
                await run.cancel()
            if self._watchers:
                await asyncio.wait(self._watchers)

    async def _renew(self) -> None:
        """Renew the leases, and stop the runs whose lease this daemon has lost."""
        now = asyncio.get_running_loop().time()
        if not self._running or now - self._renewed_at < LEASE_S / 4:
            return
        self._renewed_at, held_until = now, time.monotonic() + LEASE_S
        lost_ids = await self._database.write(runs.renew, list(self._running), self.holder, LEASE_S)
        for run_id in lost_ids:
            running_row = self._running.get(run_id)
            if running_row is not None:
                logger.warning("another daemon has taken over or cancelled the run %s", run_id)
                await running_row[1].cancel()
        self.sure_until = held_until - LEASE_MARGIN_S
        for row, run in tuple(self._running.values()):
            try:
                self._caller(row)
            except PorticoError as error:
                run.revoked = error.body()
                await run.cancel()

    def _caller(self, row: RunRow) -> Principal:
        """Return the caller whose rights a run has. Raise `Forbidden` if the key that the run needs was revoked."""
        kind = self._kinds[row.kind]
        if kind.lent:
            self.principals(row.key)
        return self.principals(row.owner) if kind.owned else SYSTEM

    async def revoke(self, owner: str) -> None:
        """End the runs in this daemon that have the daemon's rights and work for a revoked key."""
        error = Forbidden("The key of this run was revoked or lost scopes.", code="key_revoked").body()
        ended_runs = [
            run for row, run in self._running.values() if self._kinds[row.kind].lent and row.key == owner
        ]
        for run in ended_runs:
            run.revoked = error
        await asyncio.gather(*(run.cancel() for run in ended_runs))

    async def _follow_clock(self) -> None:
        """Renew the leases immediately if the system's clock was set.

        Leases contain times of that clock, and active runs must not appear abandoned.
        """
        ahead = _clock_lead()
        if abs(ahead - self._ahead) > MAX_CLOCK_STEP_S:
            logger.warning("the system's clock was set by %+.0f s", ahead - self._ahead)
            self._renewed_at = float("-inf")
            await self._renew()
        self._ahead = ahead

    async def _take_one(self) -> bool:
        await self._follow_clock()
        counts = Counter(
            (row.kind, row.key) for row, run in self._running.values() if run.status != "waiting"
        )
        busy: Counter[str] = Counter()
        for (kind, _key), count in counts.items():
            busy[kind] += count
        kinds = {
            name: kind.concurrency for name, kind in self._kinds.items() if busy[name] < kind.concurrency
        }
        shared_kinds = [name for name in kinds if self._kinds[name].shared]
        if not kinds:
            return False
        row = await self._database.write(
            runs.claim,
            list(kinds),
            self.holder,
            LEASE_S,
            shared_kinds,
            self._running,
            self._turns.full(kinds, counts, self._is_operator),
            self._turns.later(kinds, counts),
        )
        if row is None:
            return False
        self._turns.note((row.kind, row.key))
        last_event = await self._database.read(runs.last_event, row.id)
        is_resumed = last_event > 0
        usage = await self._runner.used_before(row.id, row.key, row.created_at) if is_resumed else None
        try:
            if row.attempts > MAX_ATTEMPTS:
                raise PorticoError(f"Gave up: the run was interrupted {MAX_ATTEMPTS} times.", code="gave_up")
            # Last, because a key that loses rights ends only runs that have been launched.
            caller = self._caller(row)
        except PorticoError as error:
            await self._database.write(runs.finish, row.id, "failed", None, error.body().to_json()["error"])
            return True
        self._launch(row, caller, last_event, usage=usage)
        return True

    def _is_operator(self, owner: str) -> bool:
        try:
            caller = self.principals(owner)
        except PorticoError:  # the key was revoked, but the run is still taken, so that it ends with an error
            return False
        return caller.admin or caller is SYSTEM

    def _launch(
        self,
        row: RunRow,
        caller: Principal,
        last_event: int,
        *,
        full: bool = True,
        usage: Usage | None = None,
    ) -> Run:
        """Execute a run whose lease this daemon holds."""
        handler, names = self._kinds[row.kind].handler, self.names(row)

        async def work(context: Context) -> Any:
            BOUND.set(names)
            return await handler(row.payload, context)

        with trace.at(trace.of_mapping(row.trace)):
            run = self._runner.spawn(
                row.kind,
                row.name,
                caller,
                work,
                run_id=row.id,
                last_event=last_event,
                timeout=None,
                owner=row.key,  # also the key that is charged
                usage=usage,
            )
        self._hold(row, run, full=full)
        return run

    def _hold(self, row: RunRow, run: Run, *, full: bool) -> None:
        """Keep the row of a run whose lease this daemon holds, and write the run's events."""
        run.durable = True
        if not self._running:
            self.sure_until = (
                time.monotonic() + LEASE_S - LEASE_MARGIN_S
            )  # this is the only run, and its lease is new
        run.recorded = asyncio.Event()
        self._running[row.id] = (row, run)
        watcher = asyncio.create_task(self._watch(row, run, full), name=f"journal {row.id}")
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _watch(self, row: RunRow, run: Run, full: bool) -> None:
        """Write the run's events and its end to the journal."""
        try:
            await self._journal(row, run)
            assert run.task is not None
            await asyncio.wait([run.task])
            if run.status == "cancelled" and self._stopping:
                await self._database.write(runs.requeue, row.id, self.holder)
            else:
                error = run.error.to_json()["error"] if run.error else None
                result = run.result if run.output is None else run.output[0]
                result = result if run.status == "completed" else None
                if run.redaction is not None and run.redaction.active:
                    error, result = run.redaction.of(error), run.redaction.of(result)
                status = run.status if run.ended else "failed"
                if run.revoked is not None and status == "cancelled":
                    status, error = "failed", run.revoked.to_json()["error"]
                write_row = self._database.write if full else self._database.write_soon
                await write_row(runs.finish, row.id, status, result, error, holder=self.holder)
        except PorticoError as error:
            # The run's lease expires; then the run is resumed from the steps that were written.
            logger.error("the end of run %s could not be written: %s", row.id, error.message)
        finally:
            if (
                self._running.get(row.id, (None, None))[1] is run
            ):  # the run may have been resumed in the meantime
                del self._running[row.id]
            assert run.recorded is not None
            run.recorded.set()
            self._wake.set()

    async def _journal(self, row: RunRow, run: Run) -> None:
        """Write the run's events, without text deltas and the progress within a stage."""
        last_stage = ""
        async for events in run.log.batches(MAX_WAITING_EVENTS):
            batch: list[tuple[int, Mapping[str, Any]]] = []
            for seq, event in events:
                stage = getattr(event, "stage", "")
                if isinstance(event, Delta) or (stage and stage == last_stage):
                    continue
                last_stage = stage
                if isinstance(event, Finished):
                    event = LAST_EVENT  # the result is in the run's own row
                data = event_to_json(event)
                if run.redaction is not None and run.redaction.active:
                    data = run.redaction.event(data)
                batch.append((seq, data))
                if isinstance(event, Asked):
                    self._wake.set()  # while the run waits for an answer, another run of its kind can work
            if batch:
                try:
                    await self._database.write_soon(runs.append_events, row.id, batch)
                except PorticoError as error:
                    logger.error("%d events of run %s are lost: %s", len(batch), row.id, error.message)
                if run.task is not None:
                    await asyncio.wait([run.task], timeout=WRITE_INTERVAL_S)
