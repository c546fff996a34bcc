"""Searches over settings, and their trials, which are runs of an evaluation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from portico_server.db import runs
from portico_server.db.evals import CHUNK, RUN_COLUMNS, EvalRunRow, ItemRow, keep
from portico_server.db.schema import eval_runs, eval_searches


@dataclass(frozen=True, slots=True)
class SearchRow:
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


_SEARCH = [eval_searches.c[name] for name in SearchRow.__dataclass_fields__]


def begin(
    connection: Connection,
    row: SearchRow,
    trials: Sequence[EvalRunRow],
    items: Sequence[ItemRow],
    kind: str,
) -> None:
    """Write a search with its trials and the items of all of them, and queue its durable run."""
    connection.execute(insert(eval_searches).values(**asdict(row)))
    for start in range(0, len(trials), CHUNK):
        connection.execute(insert(eval_runs), [asdict(trial) for trial in trials[start : start + CHUNK]])
    keep(connection, row.eval_id, row.id, items)
    runs.ensure(connection, row.run_id, kind, row.id, row.owner or "", {"search": row.id})


def get(connection: Connection, search_id: str) -> SearchRow | None:
    """The search of that id."""
    row = connection.execute(select(*_SEARCH).where(eval_searches.c.id == search_id)).first()
    return SearchRow(**row._mapping) if row else None


def newest(connection: Connection, eval_id: str, limit: int) -> list[SearchRow]:
    """The newest searches of an evaluation first."""
    rows = connection.execute(
        select(*_SEARCH)
        .where(eval_searches.c.eval_id == eval_id)
        .order_by(eval_searches.c.id.desc())
        .limit(limit)
    )
    return [SearchRow(**row._mapping) for row in rows]


def trials(connection: Connection, search_id: str) -> list[EvalRunRow]:
    """The trials of a search, in the order in which they were made."""
    rows = connection.execute(
        select(*RUN_COLUMNS).where(eval_runs.c.search_id == search_id).order_by(eval_runs.c.id)
    )
    return [EvalRunRow(**row._mapping) for row in rows]


def resource(connection: Connection, eval_run_id: str, source: Mapping[str, Any], model: str) -> None:
    """Give a trial the data source that it came to have by the ``model`` that was trained for it."""
    connection.execute(
        update(eval_runs)
        .where(eval_runs.c.id == eval_run_id)
        .values(source=dict(source), metadata={"model": model})
    )


def give_up(connection: Connection, eval_run_ids: Sequence[str], status: str) -> None:
    """Give several trials at once the status that they were given up."""
    connection.execute(
        update(eval_runs)
        .where(eval_runs.c.id.in_(eval_run_ids))
        .values(status=status, finished_at=time.time())
    )


def move(
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
    row = get(connection, search_id)
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
