"""The finished steps of a flow: kept in memory, and in SQL if the run is durable."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, ClassVar, Final, Literal

import orjson

from portico.wire import Usage
from portico_server.core.principal import Principal
from portico_server.core.scoped_value import ScopedValue
from portico_server.db import dedupe, steps
from portico_server.db.database import Database
from portico_server.db.steps import StepRow
from portico_server.runs.redaction import NO_RULES, Redaction, RedactionRules

MAX_STEPS_IN_MEMORY: Final = 20_000
"""Maximum number of steps that a run keeps in memory. The steps of a durable run are in SQL."""

MIN_REPEATED_CHARACTERS: Final = 1_000
"""Minimum length, in characters, of an input or output that is replaced by a reference to an equal earlier value."""

MAX_CHARS_IN_MEMORY: Final = 8 * 2**20
"""Maximum characters of inputs and outputs that a run keeps in memory."""

MAX_INLINE_STEPS: Final = 50
"""Maximum number of steps that are written on the event loop; the database's writer writes larger batches."""

MAX_WAITING_STEPS: Final = 2_000
"""Maximum number of steps that can wait to be written before `Journal.record` waits too."""

_ATTEMPT: Final = re.compile(r"#(\d+)(?=[.\[])")
"""Matches the attempt of the preceding step in a path."""


def effect_key(run: str, turn: int, path: str, nonce: str = "") -> str:
    """Return the key of the effect of the step at ``path``. A repetition of the step has the same key.

    ``turn`` counts how often the run was asked to repeat ended steps; ``nonce``: see `Journal`.
    """
    return ":".join(filter(None, (run, nonce, str(turn or ""), path)))


class Journal:
    """The finished steps of one run, keyed by path.

    ``durability``: ``off`` keeps the steps only in memory; with ``normal`` they survive the end of the process; with
    ``full`` they survive a power cut. `record` with ``settle`` returns once that is guaranteed; without ``settle``,
    the row is written soon after, together with others. ``fence`` returns the holder that must have the run's lease
    for a row to count, or an empty string if the lease is certain. ``on_step`` is called with every step.
    """

    is_inner: ClassVar[bool] = False
    """True if usage counts with the step that called the journal's flow, even after a resume."""

    __slots__ = (
        *(
            "_attempts",
            "_database",
            "_done_rows",
            "_failed_rows",
            "_flushing",
            "_full",
            "_fence",
            "_written_count",
            "_failure",
            "_outputs",
            "_seq",
            "_places",
            "_soon",
            "_on_step",
            "_waiters",
            "_pending_rows",
        ),
        *("nonce", "redaction", "replayed", "rows", "run_id", "size"),
    )

    def __init__(
        self,
        run_id: str,
        database: Database | None = None,
        durability: Literal["off", "normal", "full"] = "off",
        step_rows: Iterable[StepRow] = (),
        fence: Callable[[], str] = str,
        on_step: Callable[[StepRow], None] | None = None,
        rules: RedactionRules = NO_RULES,
    ) -> None:
        self.run_id = run_id
        self._database = database if durability != "off" else None
        self._full = durability == "full"
        self._fence = fence
        self._on_step = on_step
        self.nonce = ""
        """Part of the keys of effects if the run is not durable. Such a run can call the same flow for many items."""
        self.rows: dict[str, StepRow] = {}
        """The steps of a run that is not durable, up to the limits for memory."""
        self.redaction = Redaction(rules)
        """The redaction to consult before a step is recorded."""
        self.replayed = Usage()
        """Usage that an earlier attempt recorded for calls by agents, and for the steps of flows that agents called."""
        self.size = 0
        """Number of characters of the inputs and outputs in ``rows``."""
        self._done_rows: dict[str, StepRow] = {}
        self._failed_rows: dict[str, StepRow] = {}
        self._attempts: dict[str, int] | None = None
        self._seq = 0
        for row in step_rows:
            self._seq = max(self._seq, row.seq)
            if row.redacted:
                continue  # the output is missing, so the step is repeated
            if row.status == "skipped" or row.output is not None:
                self._done_rows[row.path] = row
            elif row.status == "failed":
                self._failed_rows[row.path] = row
        self._outputs: dict[bytes, str] = {}
        """For each long output, by digest, a reference to the step that stores it."""
        self._places: dict[bytes, str] = {}
        """For each long text in the trace, by digest, a reference to the step that stores it."""
        self._pending_rows: list[StepRow] = []
        self._written_count = 0
        """Number of rows written."""
        self._flushing = 0
        """Number of rows that are being written."""
        self._soon = False
        """True if the pending rows are written at the end of the current event-loop turn."""
        self._waiters: list[asyncio.Future[None]] = []
        self._failure: BaseException | None = None

    @property
    def durable(self) -> bool:
        return self._database is not None

    @property
    def resumed(self) -> bool:
        """Return whether there are steps to resume from."""
        return bool(self._done_rows or self._failed_rows)

    def find(self, path: str) -> StepRow | None:
        """Return the step of an earlier attempt that need not be repeated: it has an output, or was skipped."""
        return self._done_rows.get(path)

    def failure(self, path: str) -> StepRow | None:
        """Return the step of an earlier attempt whose last result is an error."""
        return self._failed_rows.get(path)

    def attempt(self, path: str) -> int:
        """Return the attempt of the step at ``path`` in which the run was interrupted, as its inner steps show."""
        if self._attempts is None:
            self._attempts = {}
            for inner in (*self._done_rows, *self._failed_rows):
                for match in _ATTEMPT.finditer(inner):
                    step = inner[: match.start()]
                    self._attempts[step] = max(self._attempts.get(step, 1), int(match[1]))
        return self._attempts.get(path, 1)

    async def forget(self, place: str) -> None:
        """Drop the steps of an earlier attempt below the path ``place``."""
        assert self._database is not None
        paths = [path for path in (*self._done_rows, *self._failed_rows) if path.startswith(f"{place}.")]
        await self._database.write(steps.forget, self.run_id, paths, self._fence())
        for path in paths:
            self._done_rows.pop(path, None)
            self._failed_rows.pop(path, None)

    def next(self) -> int:
        """Return the number for the next step that ends."""
        self._seq += 1
        return self._seq

    async def record(self, row: StepRow, *, settle: bool = False) -> None:
        """Add a finished step. Raise the error that prevented an earlier row from being written."""
        self.add(row, settle=settle)
        if settle or self.ahead:
            await self.wait_until_written()

    def add(self, row: StepRow, *, settle: bool = False, is_announced: bool = True) -> None:
        """Add a finished step without waiting until it is written. Raise the error that prevented an earlier row from
        being written.

        ``settle``: write the row within this event-loop turn if possible. ``is_announced``: whether ``on_step`` is
        called for the row.
        """
        if is_announced and self._on_step is not None:
            self._on_step(row)
        if self._database is None:
            self._keep(row)
            return
        if self._failure is not None:
            raise self._failure
        self._pending_rows.append(self._once(row))
        if self._flushing or self._soon:
            return
        if settle and not self._full and not self._fence():
            # Steps that end in the same event-loop turn, such as in a warp, are written together.
            self._soon = True
            asyncio.get_running_loop().call_soon(self._flush_here)
        else:
            self._flush()

    def _once(self, row: StepRow) -> StepRow:
        """Return the row with repeated values replaced by references to earlier steps."""
        input, output, path = row.input, row.output, row.path
        if input is not None and len(input) >= MIN_REPEATED_CHARACTERS:
            place = self._places.setdefault(dedupe.digest(input), steps.INPUT_OF + path)
            input = input if place == steps.INPUT_OF + path else place
        if output is not None and len(output) >= MIN_REPEATED_CHARACTERS and not row.redacted:
            place = self._outputs.setdefault(dedupe.digest(output), steps.OUTPUT_OF + path)
            if place == steps.OUTPUT_OF + path:
                self._places.setdefault(dedupe.digest(steps.cut(output)), place)
            else:
                output = place
        return (
            row if input is row.input and output is row.output else row._replace(input=input, output=output)
        )

    @property
    def ahead(self) -> bool:
        """Return whether so many rows wait that a caller must wait for them before it adds more."""
        return len(self._pending_rows) > MAX_WAITING_STEPS

    def _keep(self, row: StepRow) -> None:
        if len(self.rows) >= MAX_STEPS_IN_MEMORY:
            return
        if self.size > MAX_CHARS_IN_MEMORY:
            row = row._replace(input=None, output=None)
        self.size += len(row.input or "") + len(row.output or "")
        self.rows[row.path] = row

    async def wait_until_written(self) -> None:
        """Wait until every row added so far is written. Raise the error that prevented a write."""
        row_count = self._written_count + self._flushing + len(self._pending_rows)
        while (self._flushing or self._soon) and self._written_count < row_count:
            await self._turn()
        if self._failure is not None:
            raise self._failure

    async def wait_until_idle(self) -> None:
        """Wait until no write is in progress, whether or not the writes succeeded."""
        while self._flushing or self._soon:
            await self._turn()

    async def _turn(self) -> None:
        """Wait until the current write has finished."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _flush_here(self) -> None:
        """Write the waiting rows immediately on the event loop if that takes only microseconds."""
        assert self._database is not None
        self._soon = False
        batch = self._pending_rows
        if len(batch) <= MAX_INLINE_STEPS and steps.write_here(self._database, self.run_id, batch):
            self._pending_rows = []
            self._written_count += len(batch)
            self._wake()
        else:
            self._flush()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _flush(self) -> None:
        """Write the waiting rows, and then those that arrive in the meantime."""
        assert self._database is not None
        batch, self._pending_rows = self._pending_rows, []
        future = steps.write(self._database, self.run_id, batch, self._fence(), full=self._full)
        self._flushing = len(batch)
        future.add_done_callback(self._flushed)

    def _flushed(self, future: asyncio.Future[None]) -> None:
        count, self._flushing = self._flushing, 0
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        self._failure = error  # the next call of record or add raises it
        self._written_count += count
        self._wake()
        if self._pending_rows and error is None:
            self._flush()


class InnerJournal(Journal):
    """The journal of a durable run for a flow that one of its steps calls.

    It writes to the run's journal, but has its own redaction and its own replayed usage.
    """

    is_inner = True

    __slots__ = ("_outer",)

    def __init__(self, outer: Journal, rules: RedactionRules) -> None:
        super().__init__(outer.run_id, rules=rules)
        self._outer = outer
        self._database, self._fence = outer._database, outer._fence
        self._done_rows, self._failed_rows = outer._done_rows, outer._failed_rows
        self.nonce = outer.nonce

    def next(self) -> int:
        return self._outer.next()

    def add(self, row: StepRow, *, settle: bool = False, is_announced: bool = True) -> None:
        self._outer.add(row, settle=settle, is_announced=is_announced)

    @property
    def ahead(self) -> bool:
        return self._outer.ahead

    async def wait_until_written(self) -> None:
        await self._outer.wait_until_written()

    async def wait_until_idle(self) -> None:
        await self._outer.wait_until_idle()


_WITHHELD: Final[ContextVar[bool]] = ContextVar("portico_withheld", default=False)


def specified(owner: str | None, caller: Principal) -> AbstractContextManager[object]:
    """Mark the context as the work of an app of ``owner``.

    Unless the caller can read the app's specification, the trace omits the requests of its steps, because the
    specification contains them. This includes everything that the app calls.
    """
    return ScopedValue(_WITHHELD, _WITHHELD.get() or not caller.owns(owner))


def is_withheld() -> bool:
    """Return whether this work belongs to an app whose specification the caller must not read."""
    return _WITHHELD.get()


def for_trace(value: Any) -> str | None:
    """Return a value as JSON text for the trace, shortened for people.

    Return ``None`` within an app whose specification the caller must not read.
    """
    if value is None or is_withheld():
        return None
    try:
        text = orjson.dumps(value, default=repr).decode()
    except (TypeError, ValueError):
        text = orjson.dumps(repr(value)).decode()
    return steps.cut(text)
