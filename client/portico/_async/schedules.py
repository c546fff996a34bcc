"""Schedules: apps that run, and stores that sync, at given times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portico._async.group import Group
from portico._request import at, given, named
from portico.schemas.schedules import Schedule, ScheduledRun

WHAT = "a schedule"


class Schedules(Group):
    """They run with the rights of the key that made them. A name or an id says which is meant."""

    async def create(
        self,
        name: str,
        *,
        app: str | None = None,
        store: str | None = None,
        input: Any = None,
        cron: str | None = None,
        every: str | None = None,
        timezone: str | None = None,
        missed: str | None = None,
        overlap: str | None = None,
        pause_after: int | None = None,
    ) -> Schedule:
        """Make one: an ``app`` with its ``input``, or a ``store`` that syncs, at the times of ``cron``, five fields or
        ``@daily`` and its like, in a ``timezone``, or ``every`` so long, such as ``15m``.

        ``missed``: ``skip``, ``once`` or ``all``; ``overlap``: ``skip``, ``queue`` or ``allow``. So many failures in a
        row as ``pause_after`` says pause it; 0: never. Raises `InvalidRequest` for what cannot be.
        """
        body = given(
            name=name,
            app=app,
            store=store,
            input=input,
            cron=cron,
            every=every,
            timezone=timezone,
            missed=missed,
            overlap=overlap,
            pause_after=pause_after,
        )
        return await self._transport.request("POST", "/api/schedules", Schedule, json=body)

    async def list(self, *, everyone: bool = False) -> Sequence[Schedule]:
        """Those of this key and the shared ones, by name; ``everyone``: for an admin, those of other keys too."""
        query = {"all": True} if everyone else {}
        return await self._transport.request("GET", "/api/schedules", list[Schedule], query=query)

    async def get(self, schedule: str) -> Schedule:
        """One of them. Raises `NotFound`."""
        return await self._transport.request("GET", self._at(schedule), Schedule)

    async def change(
        self,
        schedule: str,
        *,
        name: str | None = None,
        app: str | None = None,
        store: str | None = None,
        input: Any = None,
        cron: str | None = None,
        every: str | None = None,
        timezone: str | None = None,
        missed: str | None = None,
        overlap: str | None = None,
        pause_after: int | None = None,
    ) -> Schedule:
        """Change what is given, see `create`; of two that exclude each other one replaces the other."""
        body = given(
            name=name,
            app=app,
            store=store,
            input=input,
            cron=cron,
            every=every,
            timezone=timezone,
            missed=missed,
            overlap=overlap,
            pause_after=pause_after,
        )
        return await self._transport.request("PATCH", self._at(schedule), Schedule, json=body)

    async def remove(self, schedule: str) -> None:
        """Forget one. A run under way continues."""
        return await self._transport.request("DELETE", self._at(schedule), None)

    async def pause(self, schedule: str) -> Schedule:
        """Let it run no more until it is resumed."""
        return await self._transport.request("POST", self._at(schedule, "pause"), Schedule)

    async def resume(self, schedule: str) -> Schedule:
        """Let it run again from its next time on; what it missed meanwhile is not made up for."""
        return await self._transport.request("POST", self._at(schedule, "resume"), Schedule)

    async def run(self, schedule: str) -> str:
        """Begin a run now; its id. Raises `Conflict` if one is under way and the schedule allows no other."""
        return await self._transport.request("POST", self._at(schedule, "run"), str, key="run")

    async def next(self, schedule: str, *, count: int = 5) -> Sequence[float]:
        """When it is due next, in seconds since 1970."""
        path = self._at(schedule, "next")
        return await self._transport.request("GET", path, list[float], query={"count": count})

    async def preview(
        self,
        *,
        cron: str | None = None,
        every: str | None = None,
        timezone: str | None = None,
        count: int = 5,
    ) -> Sequence[float]:
        """When one would be due that was made now; nothing is made."""
        body = given(cron=cron, every=every, timezone=timezone, count=count)
        return await self._transport.request("POST", "/api/schedules/next", list[float], json=body)

    async def runs(self, schedule: str, *, limit: int = 20) -> Sequence[ScheduledRun]:
        """What came of its last times, the newest first."""
        path = self._at(schedule, "runs")
        return await self._transport.request("GET", path, list[ScheduledRun], query={"limit": limit})

    def _at(self, schedule: str, *more: str) -> str:
        return at("api", "schedules", named(schedule, WHAT), *more)
