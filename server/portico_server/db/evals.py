"""Evaluations, their runs, what became of each item, and searches over settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, select, update

from portico_server.db import runs
from portico_server.db.files import Order, RowPage
from portico_server.db.schema import eval_items, eval_outputs, eval_runs, eval_searches, evals

Verdict = Literal["pass", "fail", "error"]

BATCH_ITEMS = 500
"""Items that are written by one statement."""


@dataclass(frozen=True, slots=True)
class EvalRow:
    """One evaluation: the form of its items and its graders. ``owner`` is ``None`` for a shared one."""

    id: str
    owner: str | None
    name: str
    spec: Mapping[str, Any]
    metadata: Mapping[str, str]
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class EvalRunRow:
    """One run of an evaluation; ``settings`` and ``search_id`` if it is a trial."""

    id: str
    eval_id: str
    owner: str | None
    run_id: str
    search_id: str | None
    name: str
    source: Mapping[str, Any]
    settings: Mapping[str, Any] | None
    metadata: Mapping[str, str]
    data_id: str
    total: int
    tally: Mapping[str, Any]
    status: str
    error: Mapping[str, Any] | None
    created_at: float
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class ItemRow:
    """One item, numbered from 0; ``sample`` is an answer that came with it."""

    number: int
    item: Mapping[str, Any]
    sample: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class OutputRow:
    """What became of one item in one run."""

    eval_run_id: str
    number: int
    status: Verdict
    score: float
    results: Sequence[Mapping[str, Any]]
    sample: Mapping[str, Any]
    tokens: int
    seconds: float
    created_at: float


_EVAL = [evals.c[name] for name in EvalRow.__dataclass_fields__]
RUN_COLUMNS = [eval_runs.c[name] for name in EvalRunRow.__dataclass_fields__]
_ITEM = [eval_items.c[name] for name in ItemRow.__dataclass_fields__]
_OUTPUT = [eval_outputs.c[name] for name in OutputRow.__dataclass_fields__]


# --- evaluations -----------------------------------------------------------------------------------------------------


def create(connection: Connection, row: EvalRow) -> None:
    """Write a new one."""
    connection.execute(insert(evals).values(**asdict(row)))


def get(connection: Connection, eval_id: str) -> EvalRow | None:
    """The one of that id."""
    row = connection.execute(select(*_EVAL).where(evals.c.id == eval_id)).first()
    return EvalRow(**row._mapping) if row else None


def page(
    connection: Connection,
    owner: str | None,
    *,
    after: EvalRow | None = None,
    limit: int = 20,
    order: Order = "asc",
    by_update: bool = False,
) -> RowPage[EvalRow]:
    """All, or those of ``owner`` and shared ones, by the time they were made, or last changed."""
    query = select(*_EVAL)
    if owner is not None:
        query = query.where((evals.c.owner == owner) | evals.c.owner.is_(None))
    up = order == "asc"
    if by_update:
        if after is not None:
            same = evals.c.updated_at == after.updated_at
            later = evals.c.updated_at > after.updated_at if up else evals.c.updated_at < after.updated_at
            query = query.where(later | (same & (evals.c.id > after.id if up else evals.c.id < after.id)))
        columns = (evals.c.updated_at, evals.c.id)
        query = query.order_by(*(column.asc() if up else column.desc() for column in columns))
    else:  # ids begin with the time
        if after is not None:
            query = query.where(evals.c.id > after.id if up else evals.c.id < after.id)
        query = query.order_by(evals.c.id.asc() if up else evals.c.id.desc())
    rows = [EvalRow(**row._mapping) for row in connection.execute(query.limit(limit + 1))]
    return RowPage(tuple(rows[:limit]), len(rows) > limit)


def change(connection: Connection, eval_id: str, values: Mapping[str, Any]) -> None:
    """Give it another name or other metadata."""
    connection.execute(update(evals).where(evals.c.id == eval_id).values(**values, updated_at=time.time()))


def remove(connection: Connection, eval_id: str) -> None:
    """Forget it with its items, runs, outputs and searches."""
    connection.execute(delete(evals).where(evals.c.id == eval_id))


# --- runs ------------------------------------------------------------------------------------------------------------


def begin(connection: Connection, row: EvalRunRow, items: Sequence[ItemRow], kind: str) -> None:
    """Write a run with its items, and queue its durable run, which is of ``kind``."""
    connection.execute(insert(eval_runs).values(**asdict(row)))
    keep(connection, row.eval_id, row.data_id, items)
    runs.ensure(connection, row.run_id, kind, row.id, row.owner or "", {"eval_run": row.id})


def keep(connection: Connection, eval_id: str, data_id: str, items: Sequence[ItemRow]) -> None:
    """Write the items of a run or a search."""
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


def run(connection: Connection, eval_run_id: str) -> EvalRunRow | None:
    """The run of that id."""
    row = connection.execute(select(*RUN_COLUMNS).where(eval_runs.c.id == eval_run_id)).first()
    return EvalRunRow(**row._mapping) if row else None


def runs_of(
    connection: Connection,
    eval_id: str,
    *,
    after: str | None = None,
    limit: int = 20,
    order: Order = "asc",
    statuses: Sequence[str] = (),
) -> RowPage[EvalRunRow]:
    """The runs of an evaluation, trials among them."""
    query = select(*RUN_COLUMNS).where(eval_runs.c.eval_id == eval_id)
    up = order == "asc"
    if statuses:
        query = query.where(eval_runs.c.status.in_(statuses))
    if after is not None:
        query = query.where(eval_runs.c.id > after if up else eval_runs.c.id < after)
    query = query.order_by(eval_runs.c.id.asc() if up else eval_runs.c.id.desc()).limit(limit + 1)
    rows = [EvalRunRow(**row._mapping) for row in connection.execute(query)]
    return RowPage(tuple(rows[:limit]), len(rows) > limit)


def move(
    connection: Connection,
    eval_run_id: str,
    status: str,
    *,
    since: Sequence[str],
    error: Mapping[str, Any] | None = None,
    ended: bool = False,
) -> bool:
    """Give a run another status, if it has one of ``since``; whether it had."""
    changed = connection.execute(
        update(eval_runs)
        .where(eval_runs.c.id == eval_run_id, eval_runs.c.status.in_(since))
        .values(
            status=status,
            error=dict(error) if error else None,
            finished_at=time.time() if ended else None,
        )
    )
    return changed.rowcount > 0


def remove_run(connection: Connection, eval_run_id: str) -> None:
    """Forget a run with its outputs, and its items if nobody shares them."""
    connection.execute(delete(eval_items).where(eval_items.c.data_id == eval_run_id))
    connection.execute(delete(eval_runs).where(eval_runs.c.id == eval_run_id))


def item(connection: Connection, data_id: str, number: int) -> ItemRow | None:
    """One item."""
    row = connection.execute(
        select(*_ITEM).where(eval_items.c.data_id == data_id, eval_items.c.number == number)
    ).first()
    return ItemRow(**row._mapping) if row else None


def items_of(connection: Connection, data_id: str, numbers: Sequence[int]) -> dict[int, ItemRow]:
    """Some items by their numbers."""
    rows = connection.execute(
        select(*_ITEM).where(eval_items.c.data_id == data_id, eval_items.c.number.in_(numbers))
    )
    return {row.number: ItemRow(**row._mapping) for row in rows}


def done(connection: Connection, eval_run_id: str) -> set[int]:
    """The numbers of the items that a run is done with."""
    query = select(eval_outputs.c.number).where(eval_outputs.c.eval_run_id == eval_run_id)
    return set(connection.execute(query).scalars())


def note(
    connection: Connection,
    row: OutputRow,
    add: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> str:
    """Keep what became of an item, unless that is known, and ``add`` it to the run's tally; the run's status."""
    found = run(connection, row.eval_run_id)
    if found is None:
        return ""
    known = connection.execute(
        select(eval_outputs.c.number).where(
            eval_outputs.c.eval_run_id == row.eval_run_id, eval_outputs.c.number == row.number
        )
    ).first()
    if known is None:
        connection.execute(insert(eval_outputs).values(**asdict(row)))
        connection.execute(
            update(eval_runs).where(eval_runs.c.id == row.eval_run_id).values(tally=dict(add(found.tally)))
        )
    return found.status


def output(connection: Connection, eval_run_id: str, number: int) -> OutputRow | None:
    """What became of one item."""
    row = connection.execute(
        select(*_OUTPUT).where(eval_outputs.c.eval_run_id == eval_run_id, eval_outputs.c.number == number)
    ).first()
    return OutputRow(**row._mapping) if row else None


def outputs(
    connection: Connection,
    eval_run_id: str,
    *,
    after: int | None = None,
    limit: int = 20,
    order: Order = "asc",
    statuses: Sequence[str] = (),
) -> RowPage[OutputRow]:
    """What became of the items, in their order."""
    query = select(*_OUTPUT).where(eval_outputs.c.eval_run_id == eval_run_id)
    number, up = eval_outputs.c.number, order == "asc"
    if statuses:
        query = query.where(eval_outputs.c.status.in_(statuses))
    if after is not None:
        query = query.where(number > after if up else number < after)
    query = query.order_by(number.asc() if up else number.desc()).limit(limit + 1)
    rows = [OutputRow(**row._mapping) for row in connection.execute(query)]
    return RowPage(tuple(rows[:limit]), len(rows) > limit)


# Searches over settings, and their trials, which are runs of an evaluation.


@dataclass(frozen=True, slots=True)
class EvalSearchRow:
    """One search over settings. ``total`` counts its items."""

    id: str
    eval_id: str
    owner: str | None
    run_id: str
    name: str
    spec: Mapping[str, Any]
    state: Mapping[str, Any]
    status: str
    error: Mapping[str, Any] | None
    total: int
    created_at: float
    finished_at: float | None


_SEARCH = [eval_searches.c[name] for name in EvalSearchRow.__dataclass_fields__]


def begin_search(
    connection: Connection,
    row: EvalSearchRow,
    trials: Sequence[EvalRunRow],
    items: Sequence[ItemRow],
    kind: str,
) -> None:
    """Write a search with its trials and the items of all of them, and queue its durable run."""
    connection.execute(insert(eval_searches).values(**asdict(row)))
    for start in range(0, len(trials), BATCH_ITEMS):
        connection.execute(
            insert(eval_runs), [asdict(trial) for trial in trials[start : start + BATCH_ITEMS]]
        )
    keep(connection, row.eval_id, row.id, items)
    runs.ensure(connection, row.run_id, kind, row.id, row.owner or "", {"search": row.id})


def get_search(connection: Connection, search_id: str) -> EvalSearchRow | None:
    """The search of that id."""
    row = connection.execute(select(*_SEARCH).where(eval_searches.c.id == search_id)).first()
    return EvalSearchRow(**row._mapping) if row else None


def newest_searches(connection: Connection, eval_id: str, limit: int) -> list[EvalSearchRow]:
    """The newest searches of an evaluation first."""
    rows = connection.execute(
        select(*_SEARCH)
        .where(eval_searches.c.eval_id == eval_id)
        .order_by(eval_searches.c.id.desc())
        .limit(limit)
    )
    return [EvalSearchRow(**row._mapping) for row in rows]


def trials(connection: Connection, search_id: str) -> list[EvalRunRow]:
    """The trials of a search, in the order in which they were made."""
    rows = connection.execute(
        select(*RUN_COLUMNS).where(eval_runs.c.search_id == search_id).order_by(eval_runs.c.id)
    )
    return [EvalRunRow(**row._mapping) for row in rows]


def change_source(connection: Connection, eval_run_id: str, source: Mapping[str, Any], model: str) -> None:
    """Give a trial the data source that it came to have by the ``model`` that was trained for it."""
    connection.execute(
        update(eval_runs)
        .where(eval_runs.c.id == eval_run_id)
        .values(source=dict(source), metadata={"model": model})
    )


def give_up_trials(connection: Connection, eval_run_ids: Sequence[str], status: str) -> None:
    """Give several trials at once the status that they were given up."""
    connection.execute(
        update(eval_runs)
        .where(eval_runs.c.id.in_(eval_run_ids))
        .values(status=status, finished_at=time.time())
    )


def move_search(
    connection: Connection,
    search_id: str,
    status: str,
    *,
    since: Sequence[str],
    state: Mapping[str, Any] | None = None,
    error: Mapping[str, Any] | None = None,
    ended: bool = False,
) -> bool:
    """Give a search another status, if it has one of ``since``; whether it had. Its trials that wait end with it."""
    row = get_search(connection, search_id)
    if row is None or row.status not in since:
        return False
    now = time.time()
    connection.execute(
        update(eval_searches)
        .where(eval_searches.c.id == search_id)
        .values(
            status=status,
            state={**row.state, **(state or {})},
            error=dict(error) if error else None,
            finished_at=now if ended else None,
        )
    )
    if ended:
        waiting = eval_runs.c.status.in_(("queued", "in_progress"))
        connection.execute(
            update(eval_runs)
            .where(eval_runs.c.search_id == search_id, waiting)
            .values(status="failed" if status == "failed" else "canceled", finished_at=now)
        )
    return True
