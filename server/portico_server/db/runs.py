"""Durable runs and their events."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import orjson
from sqlalchemy import ColumnElement, Connection, case, func, insert, or_, select, true, update

from portico_server.core.dataclass import dataclass
from portico_server.core.principal import SYSTEM
from portico_server.db import dedupe, questions, schedules, webhooks
from portico_server.db.rows import RowPage, Rows, may_have_another, portions
from portico_server.db.rows import now as clock
from portico_server.db.schema import CHANNEL, run_events, runs, steps

RunStatus = Literal["queued", "running", "waiting", "completed", "failed", "cancelled"]

ANNOUNCED_KINDS = frozenset({"responses", "batch", "finetune", "eval"})
"""Kinds of runs whose end is announced with the end of what they were for, as an event of that."""

LONG_RESULT_CHARS = 1_000
"""From which on parts of a result are not written again that are outputs of steps."""

MIN_ARGUMENTS_CHARS = 1_000
"""From which on the event of a question does not repeat its arguments, which stand in the question's row."""

FOR = "for"
"""Under this the payload of a run that the daemon does itself says for which key that is."""

HELD_STATUSES = ("running", "waiting")
"""What a run is while a daemon holds it by a lease."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One durable run."""

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
    """The headers of the trace in which it started."""
    bound: Mapping[str, str] | None = None
    """What the names mean that it asks for, see `portico_server.core.binding`."""

    @property
    def key(self) -> str:
        """The key for whose sake it is, which is its owner's unless its payload says more."""
        return _key(self)


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run that is to be written; ``trace`` and ``bound`` as in `RunRow`."""

    id: str
    kind: str
    name: str
    owner: str
    payload: Mapping[str, Any]
    trace: Mapping[str, str] | None = None
    bound: Mapping[str, str] | None = None

    @property
    def key(self) -> str:
        """As in `RunRow`."""
        return _key(self)

    def values(self) -> dict[str, Any]:
        """Its columns that are not null."""
        values = {name: getattr(self, name) for name in NewRun.__dataclass_fields__}
        return {name: value for name, value in values.items() if value is not None}


def _key(run: RunRow | NewRun) -> str:
    return str((run.owner == SYSTEM.id and run.payload.get(FOR)) or run.owner)


ATTEMPT_STRIDE_COUNT = 2**20
"""Between the numbers of the events of one attempt and those of the next."""

TAKEN_UP: Final = "taken_up"
"""The type of what the journal has before the events of an attempt that continues a run. Nobody is sent it."""

_APPEND = "INSERT INTO run_events (run_id, seq, created_at, event) VALUES (?, ?, ?, ?)"

Beginning: TypeAlias = Callable[[Connection, NewRun, str, float], RunRow]
"""What writes the row of a run that begins: `begin`, or something around it with the same arguments."""

_RUNS = Rows(runs, RunRow)


def pending(connection: Connection) -> list[tuple[str, RunStatus, int, float]]:
    """Runs that have not ended, as (kind, status, how many, when the oldest was made)."""
    rows = connection.execute(
        select(runs.c.kind, runs.c.status, func.count(), func.min(runs.c.created_at))
        .where(runs.c.status.in_(("queued", *HELD_STATUSES)))
        .group_by(runs.c.kind, runs.c.status)
    )
    return [(kind, status, number, oldest) for kind, status, number, oldest in rows]


def may_begin(connection: Connection, kind: str, owner: str, limit: int) -> bool:
    """Whether an owner has fewer than ``limit`` runs of a kind that have not ended."""
    binary_expression = runs.c.status.in_(("queued", *HELD_STATUSES))
    return may_have_another(connection, limit, binary_expression, runs.c.kind == kind, runs.c.owner == owner)


def ensure(connection: Connection, run: NewRun) -> str:
    """Queue a run, unless one of this kind and name waits for the same key already; the id of the one that waits."""
    same = (runs.c.kind == run.kind, runs.c.name == run.name, _for_key == run.key)
    queued_run = connection.execute(select(runs.c.id).where(*same, runs.c.status == "queued")).scalar()
    if queued_run is not None:
        return str(queued_run)
    queue(connection, run)
    return run.id


def queue(connection: Connection, run: NewRun) -> None:
    """Write a run that whoever is free takes up."""
    connection.execute(insert(runs).values(**run.values(), status="queued", created_at=time.time()))


def bind(connection: Connection, run_id: str, names: Mapping[str, str]) -> None:
    """Write down what more names of a run mean; the first meaning of each holds."""
    bound_names = connection.execute(select(runs.c.bound).where(runs.c.id == run_id)).scalar() or {}
    connection.execute(update(runs).where(runs.c.id == run_id).values(bound={**names, **bound_names}))


def count_held(connection: Connection) -> dict[str, int]:
    """How many runs each daemon holds, by the name under which it does."""
    query = select(runs.c.lease_owner, func.count()).where(
        runs.c.status.in_(HELD_STATUSES), runs.c.lease_owner.is_not(None)
    )
    return {row[0]: row[1] for row in connection.execute(query.group_by(runs.c.lease_owner))}


def begin(connection: Connection, run: NewRun, lease_owner: str, lease_seconds: float) -> RunRow:
    """Write a run that the caller begins at once, under its lease."""
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
    """Put a run that has ended back into the queue, with another ``payload`` if one is given; whether it had ended."""
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
    """Put more into what a run is taken up with."""
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
    """Take the oldest run that waits, or whose lease has run out, of one of ``kinds``.

    Never one of ``living_here``: their leases only seem to be over, because the clock was set. A run whose
    (kind, name) is being worked on under a living lease is left alone, unless its kind is one of
    ``shared_kinds``. ``full`` are kinds and keys that have their share: theirs wait. ``later`` are kinds and
    keys whose runs come after those of all others, in this order.
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
        # Where several daemons write at once, another one may have been quicker.
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
    """Give the events of another attempt numbers that no event had: somebody may have heard of more of the last attempt
    than is journalled.
    """
    attempt = last_event(connection, run_id) // ATTEMPT_STRIDE_COUNT + 1
    append_events(connection, run_id, [(attempt * ATTEMPT_STRIDE_COUNT, {"type": TAKEN_UP})])


_for_key = case(
    (runs.c.owner == SYSTEM.id, func.coalesce(runs.c.payload[FOR].as_string(), runs.c.owner)),
    else_=runs.c.owner,
)
"""`RunRow.key`."""


def _order(later: Sequence[tuple[str, str]]) -> list[ColumnElement[int]]:
    """By the place in ``later``; whatever is not in there is before all of it."""
    places = [
        ((runs.c.kind == kind) & (_for_key == key), place) for place, (kind, key) in enumerate(later, 1)
    ]
    return [case(*places, else_=0)] if places else []


def _progressed(connection: Connection, row: Any) -> bool:
    """Whether the last attempt ended a step: interruptions are counted from 0 where it got further."""
    if row.started_at is None or not row.attempts:
        return False
    query = select(steps.c.path).where(
        steps.c.run_id == row.id, steps.c.status != "failed", steps.c.started_at >= row.started_at
    )
    return connection.execute(query.limit(1)).first() is not None


def renew(
    connection: Connection, run_ids: Sequence[str], lease_owner: str, lease_seconds: float
) -> list[str]:
    """Keep the leases on ``run_ids``; those of them that somebody else holds by now."""
    owned_ids: set[str] = set()
    for batch in portions(run_ids):
        condition = runs.c.id.in_(batch) & (runs.c.lease_owner == lease_owner)
        connection.execute(
            update(runs).where(condition).values(lease_expires=clock(connection) + lease_seconds)
        )
        owned_ids.update(connection.execute(select(runs.c.id).where(condition)).scalars())
    return [run_id for run_id in run_ids if run_id not in owned_ids]


def release_all(connection: Connection, holder: str) -> int:
    """Give up every lease but those of ``holder``, when no other daemon can hold one (one daemon per SQLite file). How
    many there were.
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
    """Record how a run ended; what it still asks is asked no more. Nothing if somebody else than ``holder`` has it."""
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
    """Write the event of a run that has ended, unless what it was for has events of its own."""
    if kind not in ANNOUNCED_KINDS:
        webhooks.announce(connection, owner, _ENDS.get(status, "run.failed"), run_id)


_ENDS: Mapping[str, str] = {"completed": "run.finished", "cancelled": "run.cancelled"}


def _without_steps(connection: Connection, run_id: str, result: Any) -> tuple[Any, str | None]:
    """A long result without what is the output of a step, and where that belongs, for ``result_step``."""
    try:
        size = len(orjson.dumps(result))
        if size < LONG_RESULT_CHARS:
            return result, None
        outputs = select(steps.c.path, steps.c.output).where(
            steps.c.run_id == run_id,
            steps.c.status == "completed",
            # Characters, of up to four bytes; what is longer than the result cannot be in it.
            func.length(steps.c.output).between(dedupe.MIN_PART_CHARS // 4, size),
        )
        step_outputs = {dedupe.digest(output): path for path, output in connection.execute(outputs)}
        smaller, parts = dedupe.replace_kept(result, step_outputs)
    except TypeError:  # a whole number beyond 64 bits
        return result, None
    return smaller, orjson.dumps(parts).decode() if parts else None


def _with_steps(connection: Connection, run_id: str, result: Any, parts: str) -> Any:
    """The result that `_without_steps` made smaller. ``parts``: also the path of one step, as it was written once."""
    references = orjson.loads(parts) if parts.startswith("[") else [((), parts)]

    def fetch(path: str) -> Any:
        output = select(steps.c.output).where(steps.c.run_id == run_id, steps.c.path == path)
        return orjson.loads(connection.execute(output).scalar() or b"null")

    return dedupe.restore_kept(result, references, fetch)


def cancel_elsewhere(connection: Connection, run_id: str, error: Mapping[str, Any]) -> bool:
    """End a run that does not live in this daemon: it is in the queue, or another one holds it, which is
    notified, and else finds that it has lost it when it renews its leases. Whether it had not ended.
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
    """Let every daemon look for a run that it must end, when the transaction ends."""
    if connection.dialect.name == "postgresql":
        notice = orjson.dumps({"origin": "", "messages": [("cancelled", run_id)]}).decode()
        connection.execute(select(func.pg_notify(CHANNEL, notice)))


def requeue(connection: Connection, run_id: str, holder: str) -> None:
    """Put an interrupted run back in the queue, if ``holder`` still has it."""
    connection.execute(
        update(runs)
        .where(runs.c.id == run_id, runs.c.lease_owner == holder)
        .values(status="queued", lease_owner=None, lease_expires=None)
    )


def append_events(
    connection: Connection, run_id: str, events: Sequence[tuple[int, Mapping[str, Any]]]
) -> None:
    """Journal numbered events; long arguments of a question stand in its row alone."""
    now = time.time()
    events = [(seq, _without_arguments(connection, event)) for seq, event in events]
    if connection.dialect.name == "sqlite":
        # Past SQLAlchemy: two rows for each step of a flow.
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
    except TypeError:  # a whole number beyond 64 bits, a key that is not text
        return json.dumps(event, default=repr)


def events(connection: Connection, run_id: str, after: int, limit: int) -> list[tuple[int, dict[str, Any]]]:
    """Journalled events with a number above ``after``, in order."""
    rows = connection.execute(
        select(run_events.c.seq, run_events.c.event)
        .where(run_events.c.run_id == run_id, run_events.c.seq > after)
        .order_by(run_events.c.seq)
        .limit(limit)
    )
    return [(row.seq, _with_arguments(connection, row.event)) for row in rows]


def _without_arguments(connection: Connection, event: Mapping[str, Any]) -> Mapping[str, Any]:
    """An event as it is journalled: without long arguments that are those of its question."""
    arguments = event.get("arguments")
    if event.get("type") != "asked" or not arguments or len(_json(arguments)) < MIN_ARGUMENTS_CHARS:
        return event
    if questions.arguments(connection, event["id"]) != arguments:
        return event  # something in them is hidden
    return {name: value for name, value in event.items() if name != "arguments"}


def _with_arguments(connection: Connection, event: dict[str, Any]) -> dict[str, Any]:
    """The event that `_without_arguments` made smaller."""
    if event.get("type") == "asked" and "arguments" not in event:
        event["arguments"] = questions.arguments(connection, event["id"]) or {}
    return event


def last_event(connection: Connection, run_id: str) -> int:
    """The number of the last journalled event, 0 if there is none."""
    sequence_number = connection.execute(
        select(run_events.c.seq)
        .where(run_events.c.run_id == run_id)
        .order_by(run_events.c.seq.desc())
        .limit(1)
    ).scalar()
    return int(sequence_number or 0)


def get(connection: Connection, run_id: str) -> RunRow | None:
    """One run, or ``None``."""
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
    """The newest runs first, as many as a page has room for; of one owner if given, behind the id ``after``. Long
    results are left out, which `get` has.
    """
    # Ids begin with the time: they order runs as created_at does, and no two are equal.
    query = _RUNS.select.order_by(runs.c.id.desc())
    if after is not None:
        query = query.where(runs.c.id < after)
    if owner is not None:
        query = query.where(runs.c.owner == owner)
    return _RUNS.page(connection, query, limit)
