"""Durable runs and their events."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, get_args

import orjson
from sqlalchemy import ColumnElement, Connection, case, func, insert, or_, select, true, update

from portico_server.core.dataclass import dataclass
from portico_server.core.principal import SYSTEM
from portico_server.db import dedupe, questions, schedules, webhooks
from portico_server.db.rows import RowPage, Rows, may_have_another, portions
from portico_server.db.rows import database_time as clock
from portico_server.db.schema import CHANNEL, run_events, runs, steps

RunStatus = Literal["queued", "running", "waiting", "completed", "failed", "cancelled"]

ANNOUNCED_KINDS = frozenset({"responses", "batch", "finetune", "eval"})
"""Kinds of runs that emit no event of their own when they end, because the object that they work on emits one."""

LONG_RESULT_CHARS = 1_000
"""Minimum size of a result, in bytes of JSON, whose step outputs are not stored a second time."""

MIN_ARGUMENTS_CHARS = 1_000
"""Minimum length of a question's arguments, in characters of JSON, that its event does not repeat, because the
question's row contains them.
"""

FOR = "for"
"""Payload field that names the key for which the daemon itself runs."""

HELD_STATUSES = ("running", "waiting")
"""Statuses of a run whose lease a daemon holds."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """A durable run."""

    id: str
    kind: str
    name: str
    owner: str
    status: RunStatus
    payload: Mapping[str, Any]
    result: Any
    error: Mapping[str, Any] | None
    attempts: int
    created_at: float
    started_at: float | None
    finished_at: float | None
    trace: Mapping[str, str] | None = None
    """The trace headers with which the run started."""
    bound: Mapping[str, str] | None = None
    """The meanings of the names that the run has looked up, see `portico_server.core.binding`."""

    @property
    def key(self) -> str:
        """The key on whose behalf the run works: the owner, unless the payload names another key."""
        return _key(self)


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be stored; for ``trace`` and ``bound``, see `RunRow`."""

    id: str
    kind: str
    name: str
    owner: str
    payload: Mapping[str, Any]
    trace: Mapping[str, str] | None = None
    bound: Mapping[str, str] | None = None

    @property
    def key(self) -> str:
        """The key on whose behalf the run works, see `RunRow.key`."""
        return _key(self)

    def values(self) -> dict[str, Any]:
        """Return the values of the columns that are not null."""
        values = {name: getattr(self, name) for name in NewRun.__dataclass_fields__}
        return {name: value for name, value in values.items() if value is not None}


def _key(run: RunRow | NewRun) -> str:
    return str((run.owner == SYSTEM.id and run.payload.get(FOR)) or run.owner)


ATTEMPT_STRIDE_COUNT = 2**20
"""Difference between the first event numbers of two consecutive attempts."""

TAKEN_UP: Final = "taken_up"
"""Type of the journal entry that precedes the events of an attempt that resumes a run. It is not sent to clients."""

_APPEND = "INSERT INTO run_events (run_id, seq, created_at, event) VALUES (?, ?, ?, ?)"

Beginning: TypeAlias = Callable[[Connection, NewRun, str, float], RunRow]
"""A function that stores a run that the caller starts: `begin`, or a wrapper with the same arguments."""

_RUNS = Rows(runs, RunRow)


def pending(connection: Connection) -> list[tuple[str, RunStatus, int, float]]:
    """Return the unfinished runs by kind and status, as (kind, status, number of runs, creation time of the oldest)."""
    rows = connection.execute(
        select(runs.c.kind, runs.c.status, func.count(), func.min(runs.c.created_at))
        .where(runs.c.status.in_(("queued", *HELD_STATUSES)))
        .group_by(runs.c.kind, runs.c.status)
    )
    return [(kind, status, number, oldest) for kind, status, number, oldest in rows]


def may_begin(connection: Connection, kind: str, owner: str, limit: int) -> bool:
    """Return whether an owner has fewer than ``limit`` unfinished runs of a kind."""
    binary_expression = runs.c.status.in_(("queued", *HELD_STATUSES))
    return may_have_another(connection, limit, binary_expression, runs.c.kind == kind, runs.c.owner == owner)


def ensure(connection: Connection, run: NewRun) -> str:
    """Queue a run, unless a run of the same kind and name is already queued for the same key. Return the id of the
    queued run.
    """
    conditions = (runs.c.kind == run.kind, runs.c.name == run.name, _for_key == run.key)
    queued_run = connection.execute(select(runs.c.id).where(*conditions, runs.c.status == "queued")).scalar()
    if queued_run is not None:
        return str(queued_run)
    queue(connection, run)
    return run.id


def queue(connection: Connection, run: NewRun) -> None:
    """Store a run that any free worker may claim."""
    connection.execute(insert(runs).values(**run.values(), status="queued", created_at=time.time()))


def bind(connection: Connection, run_id: str, names: Mapping[str, str]) -> None:
    """Store the meanings of more names of a run; existing meanings are not changed."""
    bound_names = connection.execute(select(runs.c.bound).where(runs.c.id == run_id)).scalar() or {}
    connection.execute(update(runs).where(runs.c.id == run_id).values(bound={**names, **bound_names}))


def count_held(connection: Connection) -> dict[str, int]:
    """Return the number of runs that each lease owner holds."""
    query = select(runs.c.lease_owner, func.count()).where(
        runs.c.status.in_(HELD_STATUSES), runs.c.lease_owner.is_not(None)
    )
    return {row[0]: row[1] for row in connection.execute(query.group_by(runs.c.lease_owner))}


def begin(connection: Connection, run: NewRun, lease_owner: str, lease_seconds: float) -> RunRow:
    """Store a run that the caller starts immediately, with a lease for the caller."""
    now = time.time()
    connection.execute(
        insert(runs).values(
            **run.values(),
            status="running",
            attempts=1,
            lease_owner=lease_owner,
            lease_expires=clock(connection) + lease_seconds,
            created_at=now,
            started_at=now,
        )
    )
    return RunRow(
        run.id,
        run.kind,
        run.name,
        run.owner,
        "running",
        run.payload,
        result=None,
        error=None,
        attempts=1,
        created_at=now,
        started_at=now,
        finished_at=None,
        trace=run.trace,
        bound=run.bound,
    )


def requeue_ended(connection: Connection, run_id: str, payload: Mapping[str, Any] | None = None) -> bool:
    """Put an ended run back into the queue, with a new ``payload`` if given; return whether the run had ended."""
    values = {"payload": dict(payload)} if payload is not None else {}
    result = connection.execute(
        update(runs)
        .where(runs.c.id == run_id, runs.c.finished_at.is_not(None))
        .values(
            status="queued",
            attempts=0,
            result=None,
            result_step=None,
            error=None,
            finished_at=None,
            lease_owner=None,
            **values,
        )
    )
    return result.rowcount > 0


def extend_payload(connection: Connection, run_id: str, new_fields: Mapping[str, Any]) -> None:
    """Add fields to the payload of a run."""
    payload = connection.execute(select(runs.c.payload).where(runs.c.id == run_id)).scalar_one()
    connection.execute(update(runs).where(runs.c.id == run_id).values(payload={**payload, **new_fields}))


def claim(
    connection: Connection,
    kinds: Sequence[str],
    lease_owner: str,
    lease_seconds: float,
    shared_kinds: Sequence[str] = (),
    living_here: Container[str] = (),
    full: Sequence[tuple[str, str]] = (),
    later: Sequence[tuple[str, str]] = (),
) -> RunRow | None:
    """Claim the oldest run of one of ``kinds`` that is queued or whose lease has expired.

    Runs in ``living_here`` are never claimed: their leases only seem expired, because the clock was changed. A run is
    skipped while another run with the same kind and name has a valid lease, unless its kind is in ``shared_kinds``.
    ``full`` lists (kind, key) pairs that have used their share; their runs wait. ``later`` lists (kind, key) pairs
    whose runs come after all other runs, in the order of the list.
    """
    now, sure = time.time(), clock(connection)
    living = (
        select(runs.c.kind + "\n" + runs.c.name)
        .where(runs.c.status.in_(HELD_STATUSES), runs.c.lease_expires >= sure)
        .scalar_subquery()
    )
    query = (
        _RUNS.select.where(
            runs.c.kind.in_(kinds),
            or_(
                runs.c.status == "queued",
                runs.c.status.in_(HELD_STATUSES) & (runs.c.lease_expires < sure),
            ),
            or_(runs.c.kind.in_(shared_kinds), (runs.c.kind + "\n" + runs.c.name).not_in(living)),
            *[or_(runs.c.kind != kind, _for_key != key) for kind, key in full],
        )
        .order_by(*_order(later), runs.c.created_at)
        .limit(1)
    )
    row, skipped_ids = connection.execute(query).first(), []
    while row is not None and row.id in living_here:
        skipped_ids.append(row.id)
        row = connection.execute(query.where(runs.c.id.not_in(skipped_ids))).first()
    if row is None:
        return None
    attempts = 1 if _progressed(connection, row) else row.attempts + 1
    result = connection.execute(
        update(runs)
        # If several daemons claim runs at the same time, another daemon may have claimed this run first.
        .where(runs.c.id == row.id, runs.c.status == row.status, runs.c.attempts == row.attempts)
        .values(
            status="running",
            started_at=now,
            attempts=attempts,
            lease_owner=lease_owner,
            lease_expires=sure + lease_seconds,
        )
    )
    if not result.rowcount:
        return None
    if row.started_at is not None:
        _reserve_numbers(connection, row.id)
    questions.end_unnamed(connection, row.id)
    return RunRow(**{**row._mapping, "status": "running", "started_at": now, "attempts": attempts})


def _reserve_numbers(connection: Connection, run_id: str) -> None:
    """Let the events of the next attempt start at unused numbers, because clients may have seen more events of the
    last attempt than were journalled.
    """
    attempt = last_event(connection, run_id) // ATTEMPT_STRIDE_COUNT + 1
    append_events(connection, run_id, [(attempt * ATTEMPT_STRIDE_COUNT, {"type": TAKEN_UP})])


_for_key = case(
    (runs.c.owner == SYSTEM.id, func.coalesce(runs.c.payload[FOR].as_string(), runs.c.owner)),
    else_=runs.c.owner,
)
"""`RunRow.key` as an SQL expression."""


def _order(later: Sequence[tuple[str, str]]) -> list[ColumnElement[int]]:
    """Return the order by position in ``later``; rows that are not in it come first."""
    places = [
        ((runs.c.kind == kind) & (_for_key == key), place) for place, (kind, key) in enumerate(later, 1)
    ]
    return [case(*places, else_=0)] if places else []


def _progressed(connection: Connection, row: Any) -> bool:
    """Return whether the last attempt completed a step. If it did, interruptions are counted from 0 again."""
    if row.started_at is None or not row.attempts:
        return False
    query = select(steps.c.path).where(
        steps.c.run_id == row.id, steps.c.status != "failed", steps.c.started_at >= row.started_at
    )
    return connection.execute(query.limit(1)).first() is not None


def renew(
    connection: Connection, run_ids: Sequence[str], lease_owner: str, lease_seconds: float
) -> list[str]:
    """Renew the leases on ``run_ids``; return those that another daemon now owns."""
    owned_ids: set[str] = set()
    for batch in portions(run_ids):
        condition = runs.c.id.in_(batch) & (runs.c.lease_owner == lease_owner)
        connection.execute(
            update(runs).where(condition).values(lease_expires=clock(connection) + lease_seconds)
        )
        owned_ids.update(connection.execute(select(runs.c.id).where(condition)).scalars())
    return [run_id for run_id in run_ids if run_id not in owned_ids]


def release_all(connection: Connection, holder: str) -> int:
    """Release all leases except those of ``holder``; return their number. Call this only if no other daemon can own a
    lease, which is true for SQLite because only one daemon uses a file.
    """
    condition = runs.c.status.in_(HELD_STATUSES) & (runs.c.lease_owner.is_distinct_from(holder))
    return connection.execute(
        update(runs).where(condition).values(status="queued", lease_owner=None)
    ).rowcount


def finish(
    connection: Connection,
    run_id: str,
    status: RunStatus,
    result: Any = None,
    error: Mapping[str, Any] | None = None,
    *,
    holder: str = "",
) -> None:
    """Record how a run ended, and end its open questions. If ``holder`` is given but no longer owns the run, do
    nothing.
    """
    condition = (runs.c.id == run_id) & ((runs.c.lease_owner == holder) if holder else true())
    result, parts = _without_steps(connection, run_id, result)
    row = connection.execute(
        update(runs)
        .where(condition)
        .values(
            status=status,
            result=result,
            result_step=parts,
            error=dict(error) if error else None,
            finished_at=time.time(),
            lease_owner=None,
            lease_expires=None,
        )
        .returning(runs.c.kind, runs.c.owner)
    ).first()
    if row is not None:
        questions.end_of_run(connection, run_id)
        _announce(connection, run_id, status, row.kind, row.owner)
        if row.kind == schedules.RUN_KIND:
            schedules.count_end(connection, run_id, status, error)


def _announce(connection: Connection, run_id: str, status: RunStatus, kind: str, owner: str) -> None:
    """Write the event of an ended run, unless the object that it worked on has its own events."""
    if kind not in ANNOUNCED_KINDS:
        webhooks.announce(connection, owner, _ENDS.get(status, "run.failed"), run_id)


_ENDS: Mapping[str, str] = {"completed": "run.finished", "cancelled": "run.cancelled"}


def _without_steps(connection: Connection, run_id: str, result: Any) -> tuple[Any, str | None]:
    """Return a long result without the parts that are step outputs, and the paths of these parts for the column
    ``result_step``.
    """
    try:
        size = len(orjson.dumps(result))
        if size < LONG_RESULT_CHARS:
            return result, None
        outputs = select(steps.c.path, steps.c.output).where(
            steps.c.run_id == run_id,
            steps.c.status == "completed",
            # A character has up to four bytes. An output with more characters than the result's bytes cannot
            # be part of it.
            func.length(steps.c.output).between(dedupe.MIN_PART_CHARS // 4, size),
        )
        step_outputs = {dedupe.digest(output): path for path, output in connection.execute(outputs)}
        smaller, parts = dedupe.replace_kept(result, step_outputs)
    except TypeError:  # an integer beyond 64 bits
        return result, None
    return smaller, orjson.dumps(parts).decode() if parts else None


def _with_steps(connection: Connection, run_id: str, result: Any, parts: str) -> Any:
    """Restore the result that `_without_steps` shortened. ``parts`` may also be the path of a single step, as in old
    rows.
    """
    references = orjson.loads(parts) if parts.startswith("[") else [((), parts)]

    def fetch(path: str) -> Any:
        output = select(steps.c.output).where(steps.c.run_id == run_id, steps.c.path == path)
        return orjson.loads(connection.execute(output).scalar() or b"null")

    return dedupe.restore_kept(result, references, fetch)


def cancel_elsewhere(connection: Connection, run_id: str, error: Mapping[str, Any]) -> bool:
    """End a run that is not running in this daemon: it is queued, or another daemon owns it.

    The other daemon is notified, or notices when it renews its leases that it has lost the run. Returns whether the
    run was unfinished.
    """
    row = connection.execute(
        update(runs)
        .where(runs.c.id == run_id, runs.c.status.in_(("queued", *HELD_STATUSES)))
        .values(
            status="cancelled",
            error=dict(error),
            finished_at=time.time(),
            lease_owner=None,
            lease_expires=None,
        )
        .returning(runs.c.kind, runs.c.owner)
    ).first()
    if row is not None:
        questions.end_of_run(connection, run_id)
        _announce(connection, run_id, "cancelled", row.kind, row.owner)
        _notify_cancelled(connection, run_id)
    return row is not None


def _notify_cancelled(connection: Connection, run_id: str) -> None:
    """Notify all daemons, when the transaction ends, that a run must end."""
    if connection.dialect.name == "postgresql":
        notice = orjson.dumps({"origin": "", "messages": [("cancelled", run_id)]}).decode()
        connection.execute(select(func.pg_notify(CHANNEL, notice)))


def requeue(connection: Connection, run_id: str, holder: str) -> None:
    """Put an interrupted run back into the queue, if ``holder`` still owns it."""
    connection.execute(
        update(runs)
        .where(runs.c.id == run_id, runs.c.lease_owner == holder)
        .values(status="queued", lease_owner=None, lease_expires=None)
    )


def append_events(
    connection: Connection, run_id: str, events: Sequence[tuple[int, Mapping[str, Any]]]
) -> None:
    """Journal numbered events; long arguments of a question are stored only in the question's row."""
    now = time.time()
    events = [(seq, _without_arguments(connection, event)) for seq, event in events]
    if connection.dialect.name == "sqlite":
        # Without SQLAlchemy, because every step of a flow writes two rows.
        driver: Any = connection.connection.driver_connection
        driver.executemany(_APPEND, [(run_id, seq, now, _json(event)) for seq, event in events])
        return
    connection.execute(
        insert(run_events),
        [{"run_id": run_id, "seq": seq, "created_at": now, "event": dict(event)} for seq, event in events],
    )


def _json(event: Mapping[str, Any]) -> str:
    try:
        return orjson.dumps(event).decode()
    except TypeError:  # an integer of more than 64 bits, or a key that is not a string
        return json.dumps(event, default=repr)


def events(connection: Connection, run_id: str, after: int, limit: int) -> list[tuple[int, dict[str, Any]]]:
    """Return journalled events with a number above ``after``, in order."""
    rows = connection.execute(
        select(run_events.c.seq, run_events.c.event)
        .where(run_events.c.run_id == run_id, run_events.c.seq > after)
        .order_by(run_events.c.seq)
        .limit(limit)
    )
    return [(row.seq, _with_arguments(connection, row.event)) for row in rows]


def _without_arguments(connection: Connection, event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an event in the form for the journal: without long arguments that the question's row contains."""
    arguments = event.get("arguments")
    if event.get("type") != "asked" or not arguments or len(_json(arguments)) < MIN_ARGUMENTS_CHARS:
        return event
    if questions.arguments(connection, event["id"]) != arguments:
        return event  # some arguments are hidden in the event
    return {name: value for name, value in event.items() if name != "arguments"}


def _with_arguments(connection: Connection, event: dict[str, Any]) -> dict[str, Any]:
    """Restore the arguments that `_without_arguments` removed from an event."""
    if event.get("type") == "asked" and "arguments" not in event:
        event["arguments"] = questions.arguments(connection, event["id"]) or {}
    return event


def last_event(connection: Connection, run_id: str) -> int:
    """Return the number of the last journalled event, or 0 if there are none."""
    sequence_number = connection.execute(
        select(run_events.c.seq)
        .where(run_events.c.run_id == run_id)
        .order_by(run_events.c.seq.desc())
        .limit(1)
    ).scalar()
    return int(sequence_number or 0)


def get(connection: Connection, run_id: str) -> RunRow | None:
    """Return a run, or ``None``."""
    row = connection.execute(_RUNS.select.add_columns(runs.c.result_step).where(runs.c.id == run_id)).first()
    if row is None:
        return None
    values = dict(row._mapping)
    parts = values.pop("result_step")
    if parts is not None:
        values["result"] = _with_steps(connection, run_id, values["result"], parts)
    return RunRow(**values)


def newest(
    connection: Connection, limit: int, owner: str | None = None, *, after: str | None = None
) -> RowPage[RunRow]:
    """Return runs, newest first, as many as fit on a page; optionally of one owner, and after the run with the id
    ``after``. Parts of long results are left out; `get` includes them.
    """
    # Ids begin with the creation time, so they sort like created_at, and no two are equal.
    query = _RUNS.select.order_by(runs.c.id.desc())
    if after is not None:
        query = query.where(runs.c.id < after)
    if owner is not None:
        query = query.where(runs.c.owner == owner)
    return _RUNS.page(connection, query, limit)


def any_of(connection: Connection, kinds: Sequence[str]) -> bool:
    """Return whether a run of one of the kinds exists."""
    is_any = runs.c.status.in_(get_args(RunStatus))  # so that the index on status and kind answers
    return (
        connection.execute(select(runs.c.id).where(is_any, runs.c.kind.in_(kinds)).limit(1)).first()
        is not None
    )


def newest_of(connection: Connection, kind: str, name: str) -> RunRow | None:
    """Return the newest run with a kind and a name."""
    query = _RUNS.select.where(runs.c.kind == kind, runs.c.name == name)
    return _RUNS.first(connection, query.order_by(runs.c.id.desc()))
