"""Searches for the best settings, improvements of apps, and the trials of both, which are runs of an evaluation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Final

from sqlalchemy import Connection, update

from portico_server.core.dataclass import dataclass
from portico_server.db import runs
from portico_server.db.evals import BATCH_ITEMS, RUNS, EvalRunRow, ItemRow, keep, require
from portico_server.db.rows import Rows, json_bytes
from portico_server.db.runs import NewRun
from portico_server.db.schema import eval_runs, eval_searches


@dataclass(frozen=True, slots=True)
class EvalSearchRow:
    """A search for the best settings, or an improvement of the app ``name``. ``total`` is the number of its items."""

    id: str
    eval_id: str
    owner: str | None
    run_id: str
    name: str
    spec: Mapping[str, Any]
    total: int
    created_at: float
    state: Mapping[str, Any] = field(default_factory=dict)
    status: str = "queued"
    error: Mapping[str, Any] | None = None
    finished_at: float | None = None


SEARCH_PREFIX: Final = "evalsearch_"
IMPROVEMENT_PREFIX: Final = "improvement_"
"""Prefix of the ids of improvements, which share the table of searches."""

_SEARCHES = Rows(eval_searches, EvalSearchRow)


def begin_search(
    connection: Connection,
    row: EvalSearchRow,
    trials: Sequence[EvalRunRow],
    items: Sequence[ItemRow],
    run: NewRun,
) -> None:
    """Store a search with its trials and all their items, and queue its durable run.

    Raises `NotFound` if the evaluation was deleted.
    """
    require(connection, row.eval_id)
    _SEARCHES.add(connection, row, bytes=json_bytes(row.spec) + sum(item.bytes for item in items))
    for start in range(0, len(trials), BATCH_ITEMS):
        run_rows = trials[start : start + BATCH_ITEMS]
        RUNS.add(
            connection,
            *run_rows,
            bytes=max(json_bytes(run_row.source, run_row.settings) for run_row in run_rows),
        )
    keep(connection, row.eval_id, row.id, items)
    runs.ensure(connection, run)


get_search = _SEARCHES.get


def newest_searches(connection: Connection, eval_id: str, limit: int) -> list[EvalSearchRow]:
    """Return the newest searches of an evaluation, newest first."""
    query = _SEARCHES.select.where(
        eval_searches.c.eval_id == eval_id, eval_searches.c.id.startswith(SEARCH_PREFIX, autoescape=True)
    )
    return _SEARCHES.every(connection, query.order_by(eval_searches.c.id.desc()).limit(limit))


def newest_improvements(
    connection: Connection, app: str | None, owner: str | None, limit: int
) -> list[EvalSearchRow]:
    """Return the newest improvements, newest first: of all apps or one, of all keys or one."""
    query = _SEARCHES.select.where(eval_searches.c.id.startswith(IMPROVEMENT_PREFIX, autoescape=True))
    if app is not None:
        query = query.where(eval_searches.c.name == app)
    if owner is not None:
        query = query.where(eval_searches.c.owner == owner)
    return _SEARCHES.every(connection, query.order_by(eval_searches.c.id.desc()).limit(limit))


def add_trial(connection: Connection, row: EvalRunRow) -> None:
    """Store a trial of an improvement, which begins its trials one after another."""
    RUNS.add(connection, row, bytes=json_bytes(row.source, row.settings))


def trials(connection: Connection, search_id: str) -> list[EvalRunRow]:
    """Return the trials of a search, in creation order."""
    query = RUNS.select.where(eval_runs.c.search_id == search_id)
    return RUNS.every(connection, query.order_by(eval_runs.c.id))


def change_source(connection: Connection, eval_run_id: str, source: Mapping[str, Any], model: str) -> None:
    """Replace the data source of a trial after the ``model`` for it has been trained."""
    connection.execute(
        update(eval_runs)
        .where(eval_runs.c.id == eval_run_id)
        .values(source=dict(source), metadata={"model": model})
    )


def give_up_trials(connection: Connection, eval_run_ids: Sequence[str], status: str) -> None:
    """Set the status of several abandoned trials."""
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
    has_ended: bool = False,
) -> bool:
    """Change a search's status if its current status is in ``since``. Return whether it changed. When the search ends,
    its waiting trials end too.
    """
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
            finished_at=now if has_ended else None,
        )
    )
    if has_ended:
        binary_expression = eval_runs.c.status.in_(("queued", "in_progress"))
        connection.execute(
            update(eval_runs)
            .where(eval_runs.c.search_id == search_id, binary_expression)
            .values(status="failed" if status == "failed" else "canceled", finished_at=now)
        )
    return True
