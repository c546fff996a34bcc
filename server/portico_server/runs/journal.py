"""What a flow has done so far: kept in memory, and in SQL if the run is durable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final, Literal

import orjson

from portico_server.core.errors import PorticoError
from portico_server.db import steps
from portico_server.db.database import Database
from portico_server.db.steps import StepRow

SHOWN: Final = 4_000
"""Characters of an input, or of an output that nobody resumes from, that the trace keeps."""

KEPT: Final = 20_000
"""Steps that a run in memory keeps; those of a durable one are in SQL."""

ROOM: Final = 8 * 2**20
"""Characters of inputs and outputs that it keeps with them."""

AHEAD: Final = 2_000
"""Steps that may wait to be written before `Journal.record` waits too."""


class Journal:
    """The finished steps of one run, by path.

    ``durability``: ``off`` keeps them in memory alone; ``normal`` writes them so that they survive the end of the
    process; ``full`` so that they survive a power cut. `record` with ``settle`` returns when that is so; without, the
    row is written soon after, together with others. ``fence`` says who must have the run's lease for it to count,
    or nothing if that is certain. ``told`` is called with every step.
    """

    __slots__ = (
        *(
            "_database",
            "_done",
            "_failed",
            "_flushing",
            "_full",
            "_fence",
            "_lost",
            "_run_id",
            "_seq",
            "_told",
        ),
        *("_waiting", "rows", "size"),
    )

    def __init__(
        self,
        run_id: str,
        database: Database | None = None,
        durability: Literal["off", "normal", "full"] = "off",
        finished: Iterable[StepRow] = (),
        fence: Callable[[], str] = str,
        told: Callable[[StepRow], None] | None = None,
    ) -> None:
        self._run_id = run_id
        self._database = database if durability != "off" else None
        self._full = durability == "full"
        self._fence = fence
        self._told = told
        self.rows: dict[str, StepRow] = {}
        """The steps of a run that is not durable, as far as there is room for them."""
        self.size = 0
        """Characters of their inputs and outputs."""
        self._done: dict[str, StepRow] = {}
        self._failed: dict[str, StepRow] = {}
        self._seq = 0
        for row in finished:
            self._seq = max(self._seq, row.seq)
            if row.status == "skipped" or row.output is not None:
                self._done[row.path] = row
            elif row.status == "failed":
                self._failed[row.path] = row
        self._waiting: list[StepRow] = []
        self._flushing: asyncio.Task[None] | None = None
        self._lost: PorticoError | None = None

    @property
    def durable(self) -> bool:
        return self._database is not None

    @property
    def resumed(self) -> bool:
        """Whether there is anything to take up."""
        return bool(self._done or self._failed)

    def find(self, path: str) -> StepRow | None:
        """The step of an earlier attempt of this run that need not be done again: it has an output, or was skipped."""
        return self._done.get(path)

    def failure(self, path: str) -> StepRow | None:
        """The step of an earlier attempt that ended in an error which nothing took the place of."""
        return self._failed.get(path)

    def next(self) -> int:
        """The number of the next step that ends."""
        self._seq += 1
        return self._seq

    async def record(self, row: StepRow, *, settle: bool) -> None:
        """Add a finished step. Raises what kept an earlier row from being written."""
        if self._told is not None:
            self._told(row)
        if self._database is None:
            self._keep(row)
            return
        if self._lost is not None:
            raise self._lost
        self._waiting.append(row)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush(), name=f"steps of {self._run_id}")
        if settle or len(self._waiting) > AHEAD:
            await self.settled()

    def _keep(self, row: StepRow) -> None:
        if len(self.rows) >= KEPT:
            return
        if self.size > ROOM:
            row = replace(row, input=None, output=None)
        self.size += len(row.input or "") + len(row.output or "")
        self.rows[row.path] = row

    async def settled(self) -> None:
        """Wait until every row is written. Raises what kept one from it."""
        await self.drained()
        if self._lost is not None:
            raise self._lost

    async def drained(self) -> None:
        """Wait until nothing is being written any more, whatever came of it."""
        while self._flushing is not None:
            await asyncio.wait([self._flushing])

    async def _flush(self) -> None:
        assert self._database is not None
        write = self._database.write if self._full else self._database.jot
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await write(steps.record, self._run_id, batch, self._fence())
        except PorticoError as error:
            self._lost = error  # told to whoever records or settles next
        finally:
            self._flushing = None


def shown(value: Any) -> str | None:
    """A value as JSON text for the trace, cut to what a person looks at."""
    if value is None:
        return None
    try:
        text = orjson.dumps(value, default=repr).decode()
    except (TypeError, ValueError):
        text = orjson.dumps(repr(value)).decode()
    return cut(text)


def cut(text: str) -> str:
    """JSON text, cut to what a person looks at."""
    if len(text) <= SHOWN:
        return text
    return orjson.dumps(f"{text[:SHOWN]} … {len(text):,} characters").decode()
