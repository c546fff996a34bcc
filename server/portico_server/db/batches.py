"""Batches of requests, and the result lines of their finished requests."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select, update

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict
from portico_server.db import files, runs, webhooks
from portico_server.db.files import FileRow
from portico_server.db.rows import RowPage, Rows
from portico_server.db.runs import NewRun
from portico_server.db.schema import batch_lines, batches
from portico_server.db.schema import runs as runs_table


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A batch. ``run_id`` is the durable run that does the work; ``times`` maps statuses to the times when the batch
    reached them.
    """

    id: str
    owner: str
    run_id: str
    status: str
    endpoint: str
    input_file_id: str
    input_sha256: str
    spec: Mapping[str, Any]
    created_at: float
    expires_at: float
    model: str = ""
    total: int = 0
    completed: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: Sequence[Mapping[str, Any]] | None = None
    times: Mapping[str, float] = field(default_factory=dict)
    finished_at: float | None = None


class LineRow(NamedTuple):
    """A finished request; ``line`` is its number in the input file, and ``data`` is its line in the result file, or in
    the error file if it ``failed``.
    """

    line: int
    failed: bool
    data: bytes


class SpentTokens(NamedTuple):
    """The tokens used by several requests together."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


ENDED_STATUSES = ("completed", "failed", "cancelled", "expired")
"""Final statuses of a batch."""

_BATCHES = Rows(batches, BatchRow)

get = _BATCHES.get


def create(connection: Connection, row: BatchRow, run: NewRun) -> None:
    """Store a new batch and queue its run."""
    _BATCHES.add(connection, row)
    runs.ensure(connection, run)


def status(connection: Connection, batch_id: str) -> str:
    """Return the status of a batch; empty if it no longer exists."""
    found_status = connection.execute(select(batches.c.status).where(batches.c.id == batch_id)).scalar()
    return str(found_status or "")


def page(
    connection: Connection,
    owner: str | None,
    *,
    after: BatchRow | None = None,
    limit: int = 20,
    endpoint: str | None = None,
) -> RowPage[BatchRow]:
    """Return batches, newest first: all, or only those of ``owner`` and of ``endpoint``."""
    query = _BATCHES.select.order_by(batches.c.id.desc())
    if owner is not None:
        query = query.where(batches.c.owner == owner)
    if endpoint is not None:
        query = query.where(batches.c.endpoint == endpoint)
    if after is not None:
        query = query.where(batches.c.id < after.id)
    return _BATCHES.page(connection, query, limit)


def working(connection: Connection) -> list[BatchRow]:
    """Return the batches that have not ended."""
    return _BATCHES.every(connection, _BATCHES.select.where(batches.c.finished_at.is_(None)))


def move(
    connection: Connection,
    batch_id: str,
    to: str,
    *,
    since: Sequence[str],
    values: Mapping[str, Any] | None = None,
) -> bool:
    """Change a batch's status and ``values`` if its current status is in ``since``. Return whether it changed."""
    row = get(connection, batch_id)
    if row is None or row.status not in since:
        return False
    connection.execute(
        update(batches)
        .where(batches.c.id == batch_id)
        .values(status=to, times={**row.times, to: time.time()}, **(values or {}))
    )
    if to in ENDED_STATUSES:
        webhooks.announce(connection, row.owner, f"batch.{to}", batch_id)
    return True


def cancel(connection: Connection, row: BatchRow) -> bool:
    """Stop sending the requests of a batch; return whether it could still be cancelled. A queued batch without answers
    ends immediately.
    """
    if not move(connection, row.id, "cancelling", since=("validating", "in_progress")):
        return False
    run, newest_row = runs.get(connection, row.run_id), get(connection, row.id)
    has_answers = newest_row is not None and newest_row.completed + newest_row.failed > 0
    if run is not None and run.status == "queued" and not has_answers:
        error = {"message": "The batch was cancelled.", "type": "server_error", "code": "cancelled"}
        runs.cancel_elsewhere(connection, row.run_id, error)
        move(connection, row.id, "cancelled", since=("cancelling",), values={"finished_at": time.time()})
    return True


def requeue_run(connection: Connection, row: BatchRow, errors: Sequence[Mapping[str, Any]]) -> None:
    """Queue another run for a batch whose run has ended before the batch, so that the finished lines are written to
    files.

    With ``errors``, the batch ends as failed, otherwise as cancelled. If this was already tried, or no run can be
    queued, the batch ends without result files.
    """
    run = runs.get(connection, row.run_id)
    if run is not None and run.finished_at is None:
        return  # another reader of the batch has queued the run
    is_tried = row.errors is not None or row.status == "cancelling"
    is_queued = not (errors and is_tried) and runs.requeue_ended(connection, row.run_id)
    values: dict[str, Any] = {"errors": [dict(error) for error in errors]} if errors else {}
    if is_queued:
        move(connection, row.id, "finalizing" if errors else "cancelling", since=(row.status,), values=values)
    else:
        values["finished_at"] = time.time()
        move(connection, row.id, "failed" if errors else "cancelled", since=(row.status,), values=values)


def done_lines(connection: Connection, batch_id: str) -> set[int]:
    """Return the line numbers of the finished requests."""
    return set(
        connection.execute(select(batch_lines.c.line).where(batch_lines.c.batch_id == batch_id)).scalars()
    )


def keep(
    connection: Connection,
    batch_id: str,
    rows: Sequence[LineRow],
    spent_tokens: SpentTokens,
    run_id: str,
    holder: str,
) -> str:
    """Store finished lines; return the status of the batch.

    ``holder`` must own the lease of the batch's run. Raises `Conflict` if another daemon owns the lease now.
    """
    require_held(connection, run_id, holder)
    connection.execute(insert(batch_lines), [{"batch_id": batch_id, **row._asdict()} for row in rows])
    failed_count = sum(row.failed for row in rows)
    connection.execute(
        update(batches)
        .where(batches.c.id == batch_id)
        .values(
            completed=batches.c.completed + len(rows) - failed_count,
            failed=batches.c.failed + failed_count,
            prompt_tokens=batches.c.prompt_tokens + spent_tokens.prompt_tokens,
            completion_tokens=batches.c.completion_tokens + spent_tokens.completion_tokens,
            cached_tokens=batches.c.cached_tokens + spent_tokens.cached_tokens,
        )
    )
    return status(connection, batch_id)


def require_held(connection: Connection, run_id: str, holder: str) -> None:
    """Raise `Conflict` if another daemon has taken over a run from ``holder``."""
    lease_owner = connection.execute(
        select(runs_table.c.lease_owner).where(runs_table.c.id == run_id)
    ).scalar()
    if lease_owner != holder:
        raise Conflict("Another daemon has taken over this batch.", code="lease_lost")


def lines(connection: Connection, batch_id: str, has_failed: bool, after: int, limit: int) -> list[LineRow]:
    """Return the finished lines that failed, or that did not, with a number above ``after``, in input order."""
    query = select(batch_lines.c.line, batch_lines.c.failed, batch_lines.c.data).where(
        batch_lines.c.batch_id == batch_id, batch_lines.c.failed.is_(has_failed), batch_lines.c.line > after
    )
    return [LineRow(*row) for row in connection.execute(query.order_by(batch_lines.c.line).limit(limit))]


def finish(
    connection: Connection,
    batch_id: str,
    to: str,
    file_rows: Sequence[FileRow | None],
    run_id: str,
    holder: str,
) -> None:
    """End a batch, and add the rows of its result file and its error file; ``None`` stands for a file that would be
    empty.

    Raises `Conflict` if ``holder`` no longer owns the run.
    """
    require_held(connection, run_id, holder)
    for row in file_rows:
        if row is not None:
            files.add(connection, row)
    output, errors = (row.id if row is not None else None for row in file_rows)
    values = {"output_file_id": output, "error_file_id": errors, "finished_at": time.time()}
    if not move(connection, batch_id, to, since=("finalizing", "cancelling"), values=values):
        raise Conflict(f"The batch '{batch_id}' has already ended.", code="batch_ended")


def unfinished_cleanups(connection: Connection) -> list[str]:
    """Return the ids of ended batches whose lines are still stored in the database."""
    scalar_select = select(batch_lines.c.batch_id).distinct().scalar_subquery()
    query = select(batches.c.id).where(batches.c.finished_at.is_not(None), batches.c.id.in_(scalar_select))
    return list(connection.execute(query).scalars())


def drop(connection: Connection, batch_id: str, limit: int) -> bool:
    """Delete the first ``limit`` stored lines of an ended batch; return whether there may be more."""
    last = (
        select(batch_lines.c.line)
        .where(batch_lines.c.batch_id == batch_id)
        .order_by(batch_lines.c.line)
        .limit(limit)
        .subquery()
    )
    until = connection.execute(select(func.max(last.c.line))).scalar()
    if until is None:
        return False
    connection.execute(
        delete(batch_lines).where(batch_lines.c.batch_id == batch_id, batch_lines.c.line <= until)
    )
    return True
