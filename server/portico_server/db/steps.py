"""The journal of flows, and the cache of step outputs. Values are JSON text written by the caller."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import orjson
from sqlalchemy import Connection, bindparam, delete, func, insert, null, or_, select, update

from portico.wire import Usage
from portico_server.core.errors import Conflict
from portico_server.db import runs
from portico_server.db.database import Database
from portico_server.db.runs import NewRun, RunRow
from portico_server.db.schema import runs as runs_table
from portico_server.db.schema import step_cache, steps

StepStatus = Literal["completed", "failed", "skipped"]


class StepRow(NamedTuple):
    """A finished step. ``path`` includes the iteration: ``story.chapters[3].draft``. With ``hit``, the output came
    from the cache; ``cost`` is in US dollars; with ``redacted``, parts of the output or the error are missing.

    It is a tuple, because loading a run may create a thousand of them.
    """

    path: str
    seq: int
    kind: str
    status: StepStatus
    attempt: int = 1
    input: str | None = None
    output: str | None = None
    error: str | None = None
    started_at: float = 0.0
    milliseconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    hit: bool = False
    cost: float | None = None
    redacted: bool = False


def step_usage(row: StepRow) -> Usage:
    """Return the usage of a step."""
    return Usage(row.prompt_tokens, row.completion_tokens, row.cached_tokens, row.cost)


CALLED_FLOW = "flow"
"""Kind of the row that precedes the steps of a flow that another step called."""

OUTPUT_OF, INPUT_OF = "@", "<"
"""Prefixes that mark a reference to an output or an input stored with another step of the run; the path of that step
follows. No JSON begins with these prefixes.
"""

MAX_SHOWN_CHARS = 4_000
"""Maximum number of characters that the trace stores of an input, or of an output that no resumed run needs."""

_NAMES = StepRow._fields
_COLUMNS = [steps.c[name] for name in _NAMES]
_TOKENS = (steps.c.prompt_tokens, steps.c.completion_tokens, steps.c.cached_tokens)
_HELD = select(runs_table.c.lease_owner).where(runs_table.c.id == bindparam("id"))
_REPLACE = (
    f"INSERT OR REPLACE INTO steps (run_id, {', '.join(_NAMES)}) "  # noqa: S608  # names of our own columns
    f"VALUES ({', '.join('?' * (len(_NAMES) + 1))})"
)


def write(
    database: Database, run_id: str, rows: Sequence[StepRow], holder: str, *, full: bool
) -> asyncio.Future[None]:
    """Write steps as `record` does, in the fastest available way."""
    if not holder:
        # A durable step waits only for this statement.
        future = database.rows(_REPLACE, [(run_id, *row) for row in rows], full=full)
        if future is not None:
            return future
    return database.submit(partial(record, run_id=run_id, rows=rows, holder=holder), full=full)


def write_here(database: Database, run_id: str, rows: Sequence[StepRow]) -> bool:
    """Write like `write` without ``full`` and ``holder``, but before returning. Return ``False`` if that would require
    waiting.
    """
    return database.try_write_now(_REPLACE, [(run_id, *row) for row in rows])


def record(connection: Connection, run_id: str, rows: Sequence[StepRow], holder: str = "") -> None:
    """Write finished steps. A row of the same step from an interrupted attempt is replaced.

    ``holder``, if given, must own the run's lease. Raises `Conflict` if another daemon owns it now.
    """
    _require_lease(connection, run_id, holder)
    if connection.dialect.name == "sqlite":
        driver: Any = connection.connection.driver_connection
        driver.executemany(_REPLACE, [(run_id, *row) for row in rows])
        return
    values = [{"run_id": run_id, **row._asdict()} for row in rows]
    last = {value["path"]: value for value in values}  # a statement may write each row only once
    connection.execute(delete(steps).where(steps.c.run_id == run_id, steps.c.path.in_(list(last))))
    connection.execute(insert(steps), list(last.values()))


def _require_lease(connection: Connection, run_id: str, holder: str) -> None:
    if holder and connection.execute(_HELD, {"id": run_id}).scalar() != holder:
        raise Conflict(f"Another daemon has taken over the run {run_id}.", code="lease_lost")


def finished_steps(connection: Connection, run_id: str) -> list[StepRow]:
    """Return the finished steps of a run like `of_run`, but without their inputs, which a resumed run does not need."""
    columns = [null() if column is steps.c.input else column for column in _COLUMNS]
    rows = connection.execute(select(*columns).where(steps.c.run_id == run_id).order_by(steps.c.seq))
    return _restore_values([StepRow(*row) for row in rows])


def of_run(connection: Connection, run_id: str) -> list[StepRow]:
    """Return all finished steps of a run, in the order in which they finished."""
    rows = connection.execute(select(*_COLUMNS).where(steps.c.run_id == run_id).order_by(steps.c.seq))
    return _restore_values([StepRow(*row) for row in rows])


def _restore_values(rows: list[StepRow]) -> list[StepRow]:
    """Return the rows with references replaced by the inputs and outputs that they refer to."""
    by_path = {row.path: row for row in rows}

    def found(text: str | None, *, is_shown: bool) -> str | None:
        if text is None or not text.startswith((OUTPUT_OF, INPUT_OF)):
            return text
        row = by_path.get(text[1:])
        if row is None:
            return None
        if text.startswith(INPUT_OF):
            return row.input
        return cut(row.output) if is_shown and row.output is not None else row.output

    return [
        row._replace(input=found(row.input, is_shown=True), output=found(row.output, is_shown=False))
        if (row.input or "").startswith((OUTPUT_OF, INPUT_OF)) or (row.output or "").startswith(OUTPUT_OF)
        else row
        for row in rows
    ]


def cut(text: str) -> str:
    """Return JSON text, truncated for display."""
    if len(text) <= MAX_SHOWN_CHARS:
        return text
    return orjson.dumps(f"{text[:MAX_SHOWN_CHARS]} … {len(text):,} characters").decode()


def run_usage(connection: Connection, run_id: str) -> Usage | None:
    """Return the total usage of a run's steps; ``None`` if it has no steps."""
    of_run = steps.c.run_id == run_id
    totals = [func.sum(column) for column in (*_TOKENS, steps.c.cost)]
    count, *sums = connection.execute(select(func.count(), *totals).where(of_run)).one()
    if not count:
        return None
    flows = set(connection.execute(select(steps.c.path).where(of_run, steps.c.kind == CALLED_FLOW)).scalars())
    if not flows:
        return Usage(*sums)
    # The row of the step that calls a flow already includes the tokens of the whole flow.
    rows = connection.execute(select(steps.c.path, *_TOKENS, steps.c.cost).where(of_run))
    outside = [Usage(*counts) for path, *counts in rows if not _lies_in(path, flows)]
    return sum(outside, Usage())


def _lies_in(path: str, flows: Collection[str]) -> bool:
    """Return whether a step is inside one of the flows."""
    return any(path[:end] in flows for end, letter in enumerate(path) if letter == ".")


def fork(
    connection: Connection,
    run: NewRun,
    lease_owner: str,
    lease_seconds: float,
    *,
    source: str,
    paths: Sequence[str],
) -> RunRow:
    """Begin a run (see `portico_server.db.runs.begin`), and copy the finished steps ``paths`` of another run to it."""
    row = runs.begin(connection, run, lease_owner, lease_seconds)
    kept_paths = set(paths)
    kept_steps = [step for step in of_run(connection, source) if step.path in kept_paths]
    if kept_steps:
        record(connection, run.id, kept_steps)
    return row


def forget(connection: Connection, run_id: str, paths: Sequence[str], holder: str = "") -> None:
    """Delete steps from the journal, so that they are executed again. ``holder``: see `record`."""
    _require_lease(connection, run_id, holder)
    if not paths:
        return
    _copy_referenced_outputs(connection, run_id, set(paths))
    removal = delete(steps).where(steps.c.run_id == run_id, steps.c.path == bindparam("gone"))
    connection.execute(removal, [{"gone": path} for path in paths])


def _copy_referenced_outputs(connection: Connection, run_id: str, lost_paths: set[str]) -> None:
    """Copy the values of the steps ``lost_paths`` to the remaining steps that refer to them."""
    references = or_(
        steps.c.input.startswith(OUTPUT_OF),
        steps.c.input.startswith(INPUT_OF),
        steps.c.output.startswith(OUTPUT_OF),
    )
    query = select(steps.c.path, steps.c.input, steps.c.output).where(steps.c.run_id == run_id, references)
    leaning = [
        path
        for path, *texts in connection.execute(query)
        if path not in lost_paths
        and any(text and text[0] in (OUTPUT_OF, INPUT_OF) and text[1:] in lost_paths for text in texts)
    ]
    if not leaning:
        return
    steps_by_path = {row.path: row for row in of_run(connection, run_id)}
    for path in leaning:
        of_step = (steps.c.run_id == run_id) & (steps.c.path == path)
        values = {"input": steps_by_path[path].input, "output": steps_by_path[path].output}
        connection.execute(update(steps).where(of_step).values(values))


def cached_output(connection: Connection, key: str) -> str | None:
    """Return a cached output, or ``None`` if it does not exist or has expired."""
    output = connection.execute(
        select(step_cache.c.value).where(step_cache.c.key == key, step_cache.c.expires_at > time.time())
    ).scalar()
    return None if output is None else str(output)


def keep(connection: Connection, key: str, value: str, seconds: float) -> None:
    """Cache an output, replacing an earlier output with this key."""
    connection.execute(delete(step_cache).where(step_cache.c.key == key))
    connection.execute(insert(step_cache).values(key=key, value=value, expires_at=time.time() + seconds))


def forget_expired(connection: Connection, limit: int) -> int:
    """Delete up to ``limit`` expired cached outputs; return the number deleted."""
    old = select(step_cache.c.key).where(step_cache.c.expires_at <= time.time()).limit(limit)
    keys = connection.execute(old).scalars().all()
    if keys:
        connection.execute(delete(step_cache).where(step_cache.c.key.in_(keys)))
    return len(keys)
