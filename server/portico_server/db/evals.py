"""Evaluations, their runs, the result of each item, and searches for the best settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, select, update

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import NotFound
from portico_server.db import runs, webhooks
from portico_server.db.rows import Order, RowPage, Rows, json_bytes
from portico_server.db.runs import NewRun
from portico_server.db.schema import eval_items, eval_outputs, eval_runs, evals

Verdict = Literal["pass", "fail", "error"]

BATCH_ITEMS = 500
"""Maximum number of items written by one statement."""


@dataclass(frozen=True, slots=True)
class EvalRow:
    """An evaluation: the schema of its items, and its graders. ``owner`` is ``None`` if it is shared."""

    id: str
    owner: str | None
    name: str
    spec: Mapping[str, Any]
    metadata: Mapping[str, str]
    created_at: float
    updated_at: float

    @property
    def bytes(self) -> int:
        """Size on disk in bytes, without its runs."""
        return json_bytes(self.spec, self.metadata)


@dataclass(frozen=True, slots=True)
class EvalRunRow:
    """A run of an evaluation; ``settings`` and ``search_id`` are set if it is a trial."""

    id: str
    eval_id: str
    owner: str | None
    run_id: str
    name: str
    source: Mapping[str, Any]
    data_id: str
    total: int
    tally: Mapping[str, Any]
    created_at: float
    search_id: str | None = None
    settings: Mapping[str, Any] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    status: str = "queued"
    error: Mapping[str, Any] | None = None
    finished_at: float | None = None

    @property
    def target(self) -> str:
        """The name of the evaluated model, app or store; empty if the items already contain the answers."""
        return str(self.source.get("model") or self.source.get("store") or "")


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item, numbered from 0; ``sample`` is an answer supplied together with the item."""

    number: int
    item: Mapping[str, Any]
    sample: Mapping[str, Any] | None

    @property
    def bytes(self) -> int:
        """Size on disk in bytes."""
        return json_bytes(self.item, self.sample)


@dataclass(frozen=True, slots=True)
class OutputRow:
    """The result of one item in one run."""

    eval_run_id: str
    number: int
    status: Verdict
    score: float
    results: Sequence[Mapping[str, Any]]
    sample: Mapping[str, Any]
    tokens: int
    seconds: float
    created_at: float


_EVALS = Rows(evals, EvalRow)
RUNS = Rows(eval_runs, EvalRunRow)
_ITEMS = Rows(eval_items, ItemRow)
_OUTPUTS = Rows(eval_outputs, OutputRow)


get = _EVALS.get


def create(connection: Connection, row: EvalRow) -> None:
    """Store a new evaluation."""
    _EVALS.add(connection, row, bytes=row.bytes)


def by_name(connection: Connection, name: str, owner: str | None) -> list[EvalRow]:
    """Return the evaluations with a name, newest first: all, or only those of ``owner`` and shared ones."""
    query = _EVALS.select.where(evals.c.name == name)
    if owner is not None:
        query = query.where((evals.c.owner == owner) | evals.c.owner.is_(None))
    return _EVALS.every(connection, query.order_by(evals.c.id.desc()).limit(2))


def page(
    connection: Connection,
    owner: str | None,
    *,
    after: EvalRow | None = None,
    limit: int = 20,
    order: Order = "asc",
    by_update: bool = False,
) -> RowPage[EvalRow]:
    """Return evaluations by creation time or last change: all, or only those of ``owner`` and shared ones."""
    query = _EVALS.select
    if owner is not None:
        query = query.where((evals.c.owner == owner) | evals.c.owner.is_(None))
    up = order == "asc"
    if by_update:
        if after is not None:
            has_same_time = evals.c.updated_at == after.updated_at
            later = evals.c.updated_at > after.updated_at if up else evals.c.updated_at < after.updated_at
            query = query.where(
                later | (has_same_time & (evals.c.id > after.id if up else evals.c.id < after.id))
            )
        columns = (evals.c.updated_at, evals.c.id)
        query = query.order_by(*(column.asc() if up else column.desc() for column in columns))
    else:  # ids begin with the creation time
        if after is not None:
            query = query.where(evals.c.id > after.id if up else evals.c.id < after.id)
        query = query.order_by(evals.c.id.asc() if up else evals.c.id.desc())
    return _EVALS.page(connection, query, limit)


def change(connection: Connection, eval_id: str, values: Mapping[str, Any]) -> None:
    """Change the name or the metadata of an evaluation."""
    connection.execute(update(evals).where(evals.c.id == eval_id).values(**values, updated_at=time.time()))
    row = get(connection, eval_id)
    if row is not None:
        connection.execute(update(evals).where(evals.c.id == eval_id).values(bytes=row.bytes))


def remove(connection: Connection, eval_id: str) -> None:
    """Delete an evaluation with its items, runs, outputs and searches."""
    connection.execute(delete(evals).where(evals.c.id == eval_id))


def begin(connection: Connection, row: EvalRunRow, items: Sequence[ItemRow], run: NewRun) -> None:
    """Store a run with its items, and queue its durable run. Raises `NotFound` if the evaluation was deleted."""
    require(connection, row.eval_id)
    size = json_bytes(row.source, row.settings) + sum(item.bytes for item in items)
    RUNS.add(connection, row, bytes=size)
    keep(connection, row.eval_id, row.data_id, items)
    runs.ensure(connection, run)


def require(connection: Connection, eval_id: str) -> None:
    """Raise `NotFound` unless an evaluation exists; it is not deleted until the transaction ends."""
    query = select(evals.c.id).where(evals.c.id == eval_id).with_for_update(read=True, key_share=True)
    if connection.execute(query).first() is None:
        raise NotFound(
            f"The evaluation '{eval_id}' was deleted in the meantime.", code="eval_not_found", param="eval_id"
        )


def keep(connection: Connection, eval_id: str, data_id: str, items: Sequence[ItemRow]) -> None:
    """Store the items of a run or a search, under ``data_id``."""
    for start in range(0, len(items), BATCH_ITEMS):
        rows = [
            {
                "eval_id": eval_id,
                "data_id": data_id,
                "number": item.number,
                "item": dict(item.item),
                "sample": None if item.sample is None else dict(item.sample),
            }
            for item in items[start : start + BATCH_ITEMS]
        ]
        connection.execute(insert(eval_items), rows)


run = RUNS.get


def runs_of(
    connection: Connection,
    eval_id: str,
    *,
    after: str | None = None,
    limit: int = 20,
    order: Order = "asc",
    statuses: Sequence[str] = (),
) -> RowPage[EvalRunRow]:
    """Return the runs of an evaluation, including trials."""
    query = RUNS.select.where(eval_runs.c.eval_id == eval_id)
    up = order == "asc"
    if statuses:
        query = query.where(eval_runs.c.status.in_(statuses))
    if after is not None:
        query = query.where(eval_runs.c.id > after if up else eval_runs.c.id < after)
    query = query.order_by(eval_runs.c.id.asc() if up else eval_runs.c.id.desc())
    return RUNS.page(connection, query, limit)


def move(
    connection: Connection,
    eval_run_id: str,
    status: str,
    *,
    since: Sequence[str],
    error: Mapping[str, Any] | None = None,
    has_ended: bool = False,
) -> bool:
    """Change a run's status if its current status is in ``since``. Return whether it changed.

    When a run ends, this emits an event. The end of a trial emits none, because the end of its search does.
    """
    row = connection.execute(
        update(eval_runs)
        .where(eval_runs.c.id == eval_run_id, eval_runs.c.status.in_(since))
        .values(
            status=status,
            error=dict(error) if error else None,
            finished_at=time.time() if has_ended else None,
        )
        .returning(eval_runs.c.owner, eval_runs.c.search_id)
    ).first()
    if row is not None and has_ended and row.search_id is None:
        end = "succeeded" if status == "completed" else status
        webhooks.announce(connection, row.owner, f"eval.run.{end}", eval_run_id)
    return row is not None


def working(connection: Connection) -> list[EvalRunRow]:
    """Return the runs that have not ended, except trials, which end with their search."""
    query = RUNS.select.where(eval_runs.c.finished_at.is_(None), eval_runs.c.search_id.is_(None))
    return RUNS.every(connection, query)


def remove_run(connection: Connection, eval_run_id: str) -> None:
    """Delete a run with its outputs, and with its items unless other runs share them."""
    connection.execute(delete(eval_items).where(eval_items.c.data_id == eval_run_id))
    connection.execute(delete(eval_runs).where(eval_runs.c.id == eval_run_id))


def item(connection: Connection, data_id: str, number: int) -> ItemRow | None:
    """Return an item."""
    query = _ITEMS.select.where(eval_items.c.data_id == data_id, eval_items.c.number == number)
    return _ITEMS.first(connection, query)


def items_of(connection: Connection, data_id: str, numbers: Sequence[int]) -> dict[int, ItemRow]:
    """Return items, keyed by their numbers."""
    query = _ITEMS.select.where(eval_items.c.data_id == data_id, eval_items.c.number.in_(numbers))
    return {row.number: row for row in _ITEMS.every(connection, query)}


def every_item(connection: Connection, data_id: str) -> list[ItemRow]:
    """Return all items of a run or a search, in order."""
    query = _ITEMS.select.where(eval_items.c.data_id == data_id).order_by(eval_items.c.number)
    return _ITEMS.every(connection, query)


def done_items(connection: Connection, eval_run_id: str) -> set[int]:
    """Return the numbers of the items that a run has finished."""
    query = select(eval_outputs.c.number).where(eval_outputs.c.eval_run_id == eval_run_id)
    return set(connection.execute(query).scalars())


def note(
    connection: Connection,
    row: OutputRow,
    add: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> str:
    """Store the result of an item, unless a result exists, and count it with ``add`` in the run's tally; return the
    run's status.
    """
    run_row = run(connection, row.eval_run_id)
    if run_row is None:
        return ""
    known_row = connection.execute(
        select(eval_outputs.c.number).where(
            eval_outputs.c.eval_run_id == row.eval_run_id, eval_outputs.c.number == row.number
        )
    ).first()
    if known_row is None:
        _OUTPUTS.add(connection, row)
        added_bytes = json_bytes(row.results, row.sample)
        connection.execute(
            update(eval_runs)
            .where(eval_runs.c.id == row.eval_run_id)
            .values(tally=dict(add(run_row.tally)), bytes=eval_runs.c.bytes + added_bytes)
        )
    return run_row.status


def output(connection: Connection, eval_run_id: str, number: int) -> OutputRow | None:
    """Return the result of an item, or ``None``."""
    condition = (eval_outputs.c.eval_run_id == eval_run_id) & (eval_outputs.c.number == number)
    return _OUTPUTS.first(connection, _OUTPUTS.select.where(condition))


def every_output(connection: Connection, eval_run_id: str) -> dict[int, OutputRow]:
    """Return the results of all finished items of a run, keyed by the numbers of the items."""
    query = _OUTPUTS.select.where(eval_outputs.c.eval_run_id == eval_run_id)
    return {row.number: row for row in _OUTPUTS.every(connection, query)}


def outputs(
    connection: Connection,
    eval_run_id: str,
    *,
    after: int | None = None,
    limit: int = 20,
    order: Order = "asc",
    statuses: Sequence[str] = (),
) -> RowPage[OutputRow]:
    """Return a page of the results of a run's items, in order."""
    query = _OUTPUTS.select.where(eval_outputs.c.eval_run_id == eval_run_id)
    number, up = eval_outputs.c.number, order == "asc"
    if statuses:
        query = query.where(eval_outputs.c.status.in_(statuses))
    if after is not None:
        query = query.where(number > after if up else number < after)
    query = query.order_by(number.asc() if up else number.desc())
    return _OUTPUTS.page(connection, query, limit)
