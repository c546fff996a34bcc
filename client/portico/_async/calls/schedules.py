# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.schedules`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portico._async.group import Group
from portico._request import at, given, named
from portico.schemas.schedules import Schedule, ScheduledRun


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
        """Make a schedule. It runs with the rights that the caller's key has at each time.

        A schedule to make: an ``app`` with its ``input``, or a ``store`` to sync; ``cron`` or ``every``.

        ``missed``: ``skip`` | ``once`` | ``all``.

        ``overlap``: ``skip`` | ``queue`` | ``allow``.
        """
        return await self._transport.request(
            "POST",
            "/api/schedules",
            Schedule,
            json=given(
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
            ),
        )

    async def list(self, *, everyone: bool | None = None) -> Sequence[Schedule]:
        """The caller's schedules and the shared ones, by name.

        ``everyone``: For an admin: other keys' schedules too, by their ids.
        """
        return await self._transport.request(
            "GET", "/api/schedules", list[Schedule], query=given(all=everyone)
        )

    async def get(self, schedule: str) -> Schedule:
        """One schedule."""
        return await self._transport.request(
            "GET", at("api", "schedules", named(schedule, "a schedule")), Schedule
        )

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
        """Change the fields that are given. Intervals are counted from now if its times change.

        What to change: see `Schedule`. Of ``cron`` and ``every`` one replaces the other, as of ``app`` and
        ``store``.

        ``missed``: ``skip`` | ``once`` | ``all``.

        ``overlap``: ``skip`` | ``queue`` | ``allow``.
        """
        return await self._transport.request(
            "PATCH",
            at("api", "schedules", named(schedule, "a schedule")),
            Schedule,
            json=given(
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
            ),
        )

    async def remove(self, schedule: str) -> None:
        """Forget a schedule. A run under way continues."""
        return await self._transport.request(
            "DELETE", at("api", "schedules", named(schedule, "a schedule")), None
        )

    async def pause(self, schedule: str) -> Schedule:
        """Let a schedule run no more until it is resumed. A run under way continues."""
        return await self._transport.request(
            "POST", at("api", "schedules", named(schedule, "a schedule"), "pause"), Schedule
        )

    async def resume(self, schedule: str) -> Schedule:
        """Let a schedule run again from its next time on. What it missed meanwhile is not made up for."""
        return await self._transport.request(
            "POST", at("api", "schedules", named(schedule, "a schedule"), "resume"), Schedule
        )

    async def run(self, schedule: str) -> str:
        """Begin a run now, also of a schedule that is paused."""
        return await self._transport.request(
            "POST", at("api", "schedules", named(schedule, "a schedule"), "run"), str, key="run"
        )

    async def next(self, schedule: str, *, count: int | None = None) -> Sequence[float]:
        """When a schedule is due next, or would be if it were not paused.

        ``count``: (default: ``5``).
        """
        return await self._transport.request(
            "GET",
            at("api", "schedules", named(schedule, "a schedule"), "next"),
            list[float],
            query=given(count=count),
        )

    async def preview(
        self,
        *,
        cron: str | None = None,
        every: str | None = None,
        timezone: str | None = None,
        count: int | None = None,
    ) -> Sequence[float]:
        """When a schedule would be due that was made now; nothing is made.

        ``cron`` in a ``timezone``, or ``every``; how many times are wanted.

        ``count``: (default: ``5``).
        """
        return await self._transport.request(
            "POST",
            "/api/schedules/next",
            list[float],
            json=given(cron=cron, every=every, timezone=timezone, count=count),
        )

    async def runs(self, schedule: str, *, limit: int | None = None) -> Sequence[ScheduledRun]:
        """What came of the last times, the newest first. The last hundred are kept.

        ``limit``: (default: ``20``).
        """
        return await self._transport.request(
            "GET",
            at("api", "schedules", named(schedule, "a schedule"), "runs"),
            list[ScheduledRun],
            query=given(limit=limit),
        )
