"""Canaries: aliases whose calls are split between two targets, the counts of both sides, and how the canaries ended.

The transaction that adds counts also decides whether a canary ends, using the database's clock. It writes the end
together with the reason, the figures and the event, or writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, field
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import Connection, delete, or_, select, update

from portico.schemas.canaries import CanaryEntry
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict
from portico_server.db import webhooks
from portico_server.db.names import lock
from portico_server.db.rows import Rows
from portico_server.db.rows import database_time as clock
from portico_server.db.schema import aliases, canaries, canary_entries, canary_sides

Side: TypeAlias = Literal["baseline", "canary"]
Outcome: TypeAlias = Literal["promoted", "rolled_back"]

MAX_KEPT: Final = 20
"""Maximum number of canaries stored per alias, including the running one."""

MAX_COMPARED: Final = 100
"""Number of comparisons after which older comparisons lose half of their weight, so that a canary that stays for
long is rolled back soon after its answers begin to differ.
"""

MAX_ENTRIES: Final = 200
"""Maximum number of journal entries stored per canary."""


@dataclass(frozen=True, slots=True)
class CanaryRow:
    """A canary. ``running`` is the alias until the canary has ended, then ``None``; ``key`` is the key that
    started it.
    """

    id: str
    alias: str
    running: str | None
    baseline: str
    target: str
    spec: Mapping[str, Any]
    key: str
    created_at: float
    ended_at: float | None = None
    outcome: Outcome | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class SideCounts:
    """Counts of one side's finished calls and judged answers; ``score`` is the sum of the answers' scores.

    ``errors`` are calls that failed through no fault of the caller; ``unjudged`` are answers that could not be judged.
    """

    calls: int = 0
    errors: int = 0
    milliseconds: float = 0.0
    tokens: int = 0
    samples: int = 0
    score: float = 0.0
    unjudged: int = 0

    def __add__(self, side_counts: SideCounts) -> SideCounts:
        own_counts, other_counts = asdict(self), asdict(side_counts)
        return SideCounts(**{name: own_counts[name] + other_counts[name] for name in own_counts})


@dataclass(frozen=True, slots=True)
class CanaryCounts:
    """The counts of both sides."""

    baseline: SideCounts = field(default_factory=SideCounts)
    canary: SideCounts = field(default_factory=SideCounts)


@dataclass(frozen=True, slots=True)
class Decision:
    """How a canary ends, and why."""

    outcome: Outcome
    reason: str


_CANARIES = Rows(canaries, CanaryRow)
_ENTRIES = Rows(canary_entries, CanaryEntry)

Decide: TypeAlias = Callable[[CanaryRow, CanaryCounts], Decision | None]


def running(connection: Connection) -> list[CanaryRow]:
    """Return the canaries that have not ended, sorted by alias."""
    query = _CANARIES.select.where(canaries.c.running.is_not(None))
    return _CANARIES.every(connection, query.order_by(canaries.c.alias))


def latest(connection: Connection) -> list[CanaryRow]:
    """Return the newest canary of each alias, sorted by alias."""
    canary_rows: dict[str, CanaryRow] = {}
    for row in _CANARIES.every(connection, _CANARIES.select.order_by(canaries.c.alias, canaries.c.id)):
        canary_rows[row.alias] = row
    return list(canary_rows.values())


def of_alias(connection: Connection, alias: str) -> list[CanaryRow]:
    """Return all stored canaries of an alias, newest first."""
    query = _CANARIES.select.where(canaries.c.alias == alias)
    return _CANARIES.every(connection, query.order_by(canaries.c.id.desc()))


def using(connection: Connection, target: str, *, versions: bool = False) -> str | None:
    """Return the alias of a running canary that has the model ``target`` as a side, or with ``versions``, a version of
    the app ``target``; ``None`` if no canary has.
    """
    sides = (canaries.c.baseline, canaries.c.target)
    if versions:
        condition = or_(*(side.startswith(f"{target}@", autoescape=True) for side in sides))
    else:
        condition = or_(*(side == target for side in sides))
    query = select(canaries.c.running).where(canaries.c.running.is_not(None), condition)
    return connection.execute(query.limit(1)).scalar()


def require_unused(connection: Connection, target: str, *, versions: bool = False) -> None:
    """Raise `Conflict` if a running canary uses the target."""
    alias = using(connection, target, versions=versions)
    if alias is not None:
        raise Conflict(
            f"'{target}' is one side of the canary of '{alias}'. End the canary first: portico canaries "
            f"promote '{alias}', or portico canaries rollback '{alias}'.",
            code="canary_running",
            param="name",
        )


def alias_target(connection: Connection, alias: str) -> str | None:
    """Return the target of an alias that was set at run time, or ``None``."""
    return connection.execute(select(aliases.c.target).where(aliases.c.name == alias)).scalar()


def counts(connection: Connection, canary_id: str) -> CanaryCounts:
    """Return the counts of a canary so far."""
    query = select(canary_sides).where(canary_sides.c.canary_id == canary_id)
    side_counts = {}
    for row in connection.execute(query):
        side_counts[row.side] = SideCounts(
            **{name: row._mapping[name] for name in SideCounts.__dataclass_fields__}
        )
    return CanaryCounts(**side_counts)


def entries(connection: Connection, canary_id: str) -> list[CanaryEntry]:
    """Return the journal of a canary, newest first."""
    query = _ENTRIES.select.where(canary_entries.c.canary_id == canary_id)
    return _ENTRIES.every(connection, query.order_by(canary_entries.c.id.desc()).limit(MAX_ENTRIES))


def put(connection: Connection, row: CanaryRow, expected_target: str | None) -> CanaryRow:
    """Start a canary, or change the ``spec`` of the alias's running canary and keep its counts.

    ``expected_target`` is the target that the alias had when the caller checked the targets. Raises `Conflict` if the
    alias has another target now, or if a canary with another target is running.
    """
    lock(connection, row.alias)
    if alias_target(connection, row.alias) != expected_target:
        raise Conflict(
            f"'{row.alias}' now has another target. Check the target, and set the canary again.",
            code="alias_changed",
            param="alias",
        )
    known_canary_row = _lock(connection, canaries.c.running == row.alias)
    if known_canary_row is not None and known_canary_row.target != row.target:
        raise running_conflict(known_canary_row)
    if known_canary_row is None:
        _CANARIES.add(connection, row)
        for side in ("baseline", "canary"):
            connection.execute(
                canary_sides.insert().values(canary_id=row.id, side=side, **asdict(SideCounts()))
            )
        _forget_old(connection, row.alias)
        canary_row = row
    else:
        connection.execute(
            update(canaries).where(canaries.c.id == known_canary_row.id).values(spec=dict(row.spec))
        )
        canary_row = CanaryRow(**{**_values(known_canary_row), "spec": row.spec})
    _note(connection, canary_row.id, row.key, "set", "", {**row.spec})
    return canary_row


def running_conflict(row: CanaryRow) -> Conflict:
    """Return the error for an operation that a running canary prevents."""
    return Conflict(
        f"The calls of '{row.alias}' are split between '{row.baseline}' and '{row.target}'. End the canary "
        f"first: portico canaries promote '{row.alias}', or portico canaries rollback '{row.alias}'.",
        code="canary_running",
        param="target",
    )


def _values(row: CanaryRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in CanaryRow.__dataclass_fields__}


def _lock(connection: Connection, condition: Any) -> CanaryRow | None:
    """Return the row, locked until the transaction ends."""
    return _CANARIES.first(connection, _CANARIES.select.where(condition).with_for_update())


def _forget_old(connection: Connection, alias: str) -> None:
    for row in of_alias(connection, alias)[MAX_KEPT:]:
        connection.execute(delete(canaries).where(canaries.c.id == row.id))


def _note(
    connection: Connection,
    canary_id: str,
    by: str | None,
    action: str,
    reason: str,
    figures: Mapping[str, Any],
) -> None:
    connection.execute(
        canary_entries.insert().values(
            canary_id=canary_id, at=clock(connection), by=by, action=action, reason=reason, figures=figures
        )
    )


def add_counts(
    connection: Connection, added_canary_counts: Mapping[str, CanaryCounts], decide: Decide
) -> list[CanaryRow]:
    """Add counts, keyed by canary id, and return the canaries that ``decide`` ends."""
    canary_rows = []
    for canary_id in sorted(added_canary_counts):  # in a fixed order, so that two daemons cannot deadlock
        row = _lock(connection, canaries.c.id == canary_id)
        if row is None:
            continue  # forgotten meanwhile
        for side, side_counts in (
            ("baseline", added_canary_counts[canary_id].baseline),
            ("canary", added_canary_counts[canary_id].canary),
        ):
            values = {
                name: canary_sides.c[name] + value for name, value in asdict(side_counts).items() if value
            }
            if values:
                condition = (canary_sides.c.canary_id == canary_id) & (canary_sides.c.side == side)
                connection.execute(update(canary_sides).where(condition).values(**values))
        if _has_fallback(row):
            _fade(connection, canary_id)
        if row.running is None:
            continue
        canary_counts = counts(connection, canary_id)
        decision = decide(row, canary_counts)
        if decision is not None:
            canary_rows.append(_end(connection, row, decision, None, canary_counts))
    return canary_rows


def _has_fallback(row: CanaryRow) -> bool:
    return row.spec.get("min_confidence") is not None


def _fade(connection: Connection, canary_id: str) -> None:
    """Halve the comparisons of a canary if there are too many."""
    condition = (canary_sides.c.canary_id == canary_id) & (canary_sides.c.side == "canary")
    samples = canary_sides.c.samples // 2
    values = {"samples": samples, "score": canary_sides.c.score * samples / canary_sides.c.samples}
    connection.execute(
        update(canary_sides).where(condition, canary_sides.c.samples >= MAX_COMPARED).values(**values)
    )


def end(connection: Connection, alias: str, decision: Decision, by: str | None) -> CanaryRow | None:
    """End the canary of an alias; return ``None`` if none is running."""
    lock(connection, alias)
    row = _lock(connection, canaries.c.running == alias)
    return None if row is None else _end(connection, row, decision, by, counts(connection, row.id))


def _end(
    connection: Connection, row: CanaryRow, decision: Decision, by: str | None, canary_counts: CanaryCounts
) -> CanaryRow:
    if decision.outcome == "promoted" and _has_fallback(row) and not row.spec.get("is_widened"):
        return _widen(connection, row, decision, by, canary_counts)
    values = {
        "running": None,
        "ended_at": clock(connection),
        "outcome": decision.outcome,
        "reason": decision.reason,
    }
    connection.execute(update(canaries).where(canaries.c.id == row.id).values(**values))
    if decision.outcome == "promoted":
        connection.execute(update(aliases).where(aliases.c.name == row.alias).values(target=row.target))
    _note(connection, row.id, by, decision.outcome, decision.reason, asdict(canary_counts))
    webhooks.announce(connection, row.key, f"canary.{decision.outcome}", row.id)
    return CanaryRow(**{**_values(row), **values})


def _widen(
    connection: Connection, row: CanaryRow, decision: Decision, by: str | None, canary_counts: CanaryCounts
) -> CanaryRow:
    """Send all calls to a canary that has a fallback. The alias still points to the fallback, and the rollback rule
    stays in force.
    """
    spec = {**row.spec, "is_widened": True}
    connection.execute(update(canaries).where(canaries.c.id == row.id).values(spec=spec))
    _note(connection, row.id, by, "promoted", decision.reason, asdict(canary_counts))
    webhooks.announce(connection, row.key, "canary.promoted", row.id)
    return CanaryRow(**{**_values(row), "spec": spec})
