"""Schedules for their owners: created, changed, paused, run manually, and the results of their times."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import islice
from typing import Any, Final, Protocol

from portico_server.core.errors import Conflict, NotFound, PorticoError, nearest
from portico_server.core.ids import is_id, new_id
from portico_server.core.principal import SYSTEM, Principal
from portico_server.core.registry import Registry, owner_of
from portico_server.db import schedules as rows
from portico_server.db.database import Database
from portico_server.db.names import own_or_shared
from portico_server.db.rows import database_time as clock
from portico_server.db.schedules import ScheduleRow, ScheduleTime
from portico_server.features.schedules.due_runs import current, timing_of
from portico_server.features.schedules.firing import ScheduleRuns, find_app
from portico_server.features.schedules.spec import FIELDS, ScheduleSpec, parse
from portico_server.features.schedules.synced_stores import FollowedStores
from portico_server.features.schedules.timing import Timing
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler

MAX_SCHEDULES: Final = 100
"""Maximum number of schedules of one key."""

PAUSED_BY_HAND: Final = "Paused by hand."


class ScheduleServices(Protocol):
    """The services of the daemon that the schedules use."""

    database: Database
    registry: Registry
    runner: Runner
    scheduler: Scheduler
    stores: FollowedStores


class ScheduleService:
    """The schedules of all keys.

    A reference to a schedule is its name or its id. A name means the caller's own schedule, or else a shared schedule;
    admins refer to schedules of other keys by id. A schedule that an admin creates is shared: callers who can use its
    target can see the schedule, and it runs in the name of the admin's key.
    """

    def __init__(
        self, database: Database, registry: Registry, stores: FollowedStores, firing: ScheduleRuns
    ) -> None:
        self._database = database
        self._registry = registry
        self._stores = stores
        self.firing = firing

    async def list(self, caller: Principal, *, include_all: bool = False) -> Sequence[ScheduleRow]:
        """Return the caller's own and the shared schedules, by name. ``include_all``: return all schedules to an
        admin.
        """
        schedule_rows = await self._database.read(
            rows.visible, caller.id, include_all=include_all and caller.admin
        )
        return [self._to_visible(row) for row in schedule_rows if await self._is_visible(row, caller)]

    async def get(self, ref: str, caller: Principal) -> ScheduleRow:
        """Return one schedule. Raise `NotFound`."""
        return self._to_visible(await self._find(ref, caller))

    async def create(self, spec: ScheduleSpec, caller: Principal) -> ScheduleRow:
        """Create a schedule. Raise `PorticoError` for a target that the caller cannot use.

        Raise `Conflict` for a name that is in use, or for a key that has reached its maximum number of schedules.
        """
        await self.check_target(spec, caller)
        return await self._add(spec, caller)

    async def _add(self, spec: ScheduleSpec, caller: Principal) -> ScheduleRow:
        self._registry.claims.require_unreserved(spec.name, owner_of(caller))

        def write(connection: Any) -> ScheduleRow | None:
            moment, now = clock(connection), time.time()
            row = ScheduleRow(
                id=new_id("sched_"),
                owner=owner_of(caller),
                key=caller.id,
                paused=None,
                failures=0,
                anchor=moment,
                next_at=spec.timing.next_due(moment, moment),
                created_at=now,
                updated_at=now,
                **spec.values(),
            )
            return row if rows.add(connection, row, MAX_SCHEDULES) else None

        row = await self._database.write(write)
        if row is None:
            raise Conflict(
                f"This key has reached the maximum of {MAX_SCHEDULES} schedules. Remove a schedule first.",
                code="too_many_schedules",
            )
        return row

    async def check_target(self, spec: ScheduleSpec, caller: Principal) -> None:
        """Raise `PorticoError` unless the caller can use the target of a schedule."""
        if spec.kind == "store":
            await self._stores.find_followed(spec.target, caller)
        else:
            await find_app(self._registry, spec.target, caller)

    async def change(self, ref: str, changes: Mapping[str, Any], caller: Principal) -> ScheduleRow:
        """Change the given fields. Raises the same errors as `create`, and `NotFound`, `Forbidden`."""
        row = await self._changeable(ref, caller)
        spec = parse(_merge(row, changes))
        if spec.name != row.name:
            self._registry.claims.require_unreserved(spec.name, row.owner)
        if (spec.kind, spec.target) != (row.kind, row.target):
            await self.check_target(spec, self.firing.principal(row))
        return await self._change(row, lambda newest: parse(_merge(newest, changes)))

    async def _change(self, row: ScheduleRow, to_spec: Callable[[ScheduleRow], ScheduleSpec]) -> ScheduleRow:
        def write(connection: Any) -> None:
            newest = current(connection, row.id)  # another request may have changed or paused it since
            spec = to_spec(newest)
            values = spec.values()
            if spec.timing != timing_of(newest):
                values["anchor"] = moment = clock(connection)
                if newest.paused is None:
                    values["next_at"] = spec.timing.next_due(moment, moment)
            rows.change(connection, newest, values)

        await self._database.write(write)
        return await self._again(row)

    async def remove(self, ref: str, caller: Principal) -> ScheduleRow:
        """Delete a schedule with its journal; a run in progress continues. Raise `NotFound`, `Forbidden`."""
        row = await self._changeable(ref, caller)
        await self._database.write(rows.remove, row.id)
        return row

    async def pause(self, ref: str, caller: Principal) -> ScheduleRow:
        """Pause a schedule; a run in progress continues. Raise `NotFound`, `Forbidden`."""
        row = await self._changeable(ref, caller)
        await self._database.write(rows.pause, row.id, PAUSED_BY_HAND, is_announced=False)
        return await self._again(row)

    async def resume(self, ref: str, caller: Principal) -> ScheduleRow:
        """Resume a schedule, starting with its next due time.

        If the key of a shared schedule was revoked, the schedule then runs in the caller's name. Raise `NotFound`, and
        `Forbidden` if the key of any other schedule was revoked.
        """
        row = await self._changeable(ref, caller)
        values: dict[str, Any] = {"paused": None, "failures": 0}
        try:
            self.firing.principal(row)
        except PorticoError:
            if row.owner is not None:
                raise
            values["key"] = caller.id

        def write(connection: Any) -> None:
            newest = current(connection, row.id)
            if newest.paused is not None:
                values["next_at"] = timing_of(newest).next_due(clock(connection), newest.anchor)
            rows.change(connection, newest, values)

        await self._database.write(write)
        return await self._again(row)

    async def run(self, ref: str, caller: Principal) -> str:
        """Start a run now, even if the schedule is paused, and return its id.

        Raises the same errors as `ScheduleRuns.begin_now`, and `NotFound`.
        """
        return await self.firing.begin_now(await self._changeable(ref, caller))

    async def next(self, ref: str, caller: Principal, count: int) -> Sequence[float]:
        """Return the next due times, whether the schedule is paused or not. Raise `NotFound`."""
        row = await self._find(ref, caller)
        now = await self._database.read(clock)
        return tuple(islice(timing_of(row).times(now, row.anchor), count))

    async def preview(self, timing: Timing, count: int) -> Sequence[float]:
        """Return the due times of a schedule that would be created now."""
        now = await self._database.read(clock)
        return tuple(islice(timing.times(now, now), count))

    async def times(self, ref: str, caller: Principal, limit: int) -> Sequence[ScheduleTime]:
        """Return the results of a schedule's last due times, newest first. Raise `NotFound`."""
        row = await self._find(ref, caller)
        return await self._database.read(rows.times, row.id, limit)

    async def list_shared(self) -> Mapping[str, ScheduleRow]:
        """Return the shared schedules by name."""
        schedule_rows = await self._database.read(rows.visible, None)
        return {row.name: row for row in schedule_rows}

    async def put(self, spec: ScheduleSpec) -> None:
        """Apply a configuration to a shared schedule; its target may not exist yet."""
        row = await self._database.read(rows.by_name, spec.name, None)
        if row is None:
            await self._add(spec, SYSTEM)
        elif differing(row, spec):
            await self._change(row, lambda _newest: spec)

    async def _find(self, ref: str, caller: Principal) -> ScheduleRow:
        row: ScheduleRow | None
        if is_id(ref, "sched_"):
            row = await self._database.read(rows.get, ref)
        else:
            row = await self._database.read(own_or_shared, rows.by_name, ref, caller.id)
        if row is None or not await self._is_visible(row, caller):
            schedule_names = [schedule_row.name for schedule_row in await self.list(caller)]
            raise NotFound(
                f"The schedule '{ref[:80]}' does not exist.{nearest(ref, schedule_names)}",
                code="schedule_not_found",
                param="schedule",
            )
        return row

    async def _is_visible(self, row: ScheduleRow, caller: Principal) -> bool:
        if caller.admin or row.owner == caller.id:
            return True
        if row.owner is not None:
            return False
        if row.kind == "app":
            return caller.allows(f"apps:{row.target}:call")
        if caller.allows(f"stores:{row.target}:read"):
            return True
        with suppress(NotFound):
            store = await self._registry.resolve(f"store/{row.target}", SYSTEM)
            return caller.allows_any(store.card.scopes)
        return False

    async def _changeable(self, ref: str, caller: Principal) -> ScheduleRow:
        row = await self._find(ref, caller)
        if row.owner is None:
            caller.require("admin")
        return row

    async def _again(self, row: ScheduleRow) -> ScheduleRow:
        return self._to_visible(await self._database.read(current, row.id))

    def _to_visible(self, row: ScheduleRow) -> ScheduleRow:
        """Return a schedule in the form for clients.

        If its key was revoked, the schedule appears as paused, even before its next due time.
        """
        if row.paused is not None:
            return row
        try:
            self.firing.principal(row)
        except PorticoError as error:
            return replace(row, paused=error.message, next_at=None)
        return row


def differing(row: ScheduleRow, spec: ScheduleSpec) -> tuple[str, ...]:
    """Return the names of the fields in which a schedule differs from its spec."""
    return tuple(sorted(name for name, value in spec.values().items() if getattr(row, name) != value))


def _merge(row: ScheduleRow, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a schedule with the changes. A new field replaces the field that excludes it."""
    now = {**asdict(row), row.kind: row.target}
    fields = {name: now.get(name) for name in FIELDS}
    for either in (("cron", "every"), ("app", "store")):
        if not changes.keys().isdisjoint(either):
            fields |= dict.fromkeys(either)
    if changes.get("store") is not None:
        fields["input"] = None
    return fields | dict(changes)


def build(services: ScheduleServices) -> ScheduleService:
    """Return the service of the feature."""
    firing = ScheduleRuns(
        services.database, services.registry, services.runner, services.scheduler, services.stores
    )
    return ScheduleService(services.database, services.registry, services.stores, firing)
