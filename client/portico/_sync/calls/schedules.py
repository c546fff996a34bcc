# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.schedules`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portico._request import at, check_path_name, without_none
from portico._sync.group import Group
from portico.schemas.schedules import Schedule, ScheduledRun


class Schedules(Group):
    """Schedules run with the rights of the key that created them. A schedule is identified by name or id."""

    def create(
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
        """Create a schedule. Each run has the rights that the caller's key has when the run starts.

        A schedule to create: an ``app`` to run with its ``input``, or a ``store`` to sync; with ``cron`` or
        ``every``.

        ``missed``: ``skip`` | ``once`` | ``all``.

        ``overlap``: ``skip`` | ``queue`` | ``allow``.
        """
        return self._transport.request(
            "POST",
            "/api/schedules",
            Schedule,
            json=without_none(
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

    def list(self, *, everyone: bool | None = None) -> Sequence[Schedule]:
        """List the caller's schedules and the shared schedules, by name.

        ``everyone``: For admins: include the schedules of other keys, listed by id.
        """
        return self._transport.request(
            "GET", "/api/schedules", list[Schedule], query=without_none(all=everyone)
        )

    def get(self, schedule: str) -> Schedule:
        """Return a schedule."""
        return self._transport.request(
            "GET", at("api", "schedules", check_path_name(schedule, "a schedule")), Schedule
        )

    def change(
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
        """Change the given fields of a schedule. If its times change, intervals are counted from now.

        The fields to change: see `Schedule`. Setting ``cron`` removes ``every`` and vice versa; the same is
        true for ``app`` and ``store``.

        ``missed``: ``skip`` | ``once`` | ``all``.

        ``overlap``: ``skip`` | ``queue`` | ``allow``.
        """
        return self._transport.request(
            "PATCH",
            at("api", "schedules", check_path_name(schedule, "a schedule")),
            Schedule,
            json=without_none(
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

    def remove(self, schedule: str) -> None:
        """Delete a schedule. A run in progress continues."""
        return self._transport.request(
            "DELETE", at("api", "schedules", check_path_name(schedule, "a schedule")), None
        )

    def pause(self, schedule: str) -> Schedule:
        """Pause a schedule until it is resumed. A run in progress continues."""
        return self._transport.request(
            "POST", at("api", "schedules", check_path_name(schedule, "a schedule"), "pause"), Schedule
        )

    def resume(self, schedule: str) -> Schedule:
        """Resume a schedule, starting with its next due time. Missed runs are not made up."""
        return self._transport.request(
            "POST", at("api", "schedules", check_path_name(schedule, "a schedule"), "resume"), Schedule
        )

    def run(self, schedule: str) -> str:
        """Start a run now, even if the schedule is paused."""
        return self._transport.request(
            "POST", at("api", "schedules", check_path_name(schedule, "a schedule"), "run"), str, key="run"
        )

    def next(self, schedule: str, *, count: int | None = None) -> Sequence[float]:
        """Return the next times at which a schedule is due, or would be due if it were not paused.

        ``count``: (default: ``5``).
        """
        return self._transport.request(
            "GET",
            at("api", "schedules", check_path_name(schedule, "a schedule"), "next"),
            list[float],
            query=without_none(count=count),
        )

    def preview(
        self,
        *,
        cron: str | None = None,
        every: str | None = None,
        timezone: str | None = None,
        count: int | None = None,
    ) -> Sequence[float]:
        """Return the times at which a schedule would be due if it were created now. Nothing is created.

        ``cron`` in a ``timezone``, or ``every``, and the number of due times to return.

        ``count``: (default: ``5``).
        """
        return self._transport.request(
            "POST",
            "/api/schedules/next",
            list[float],
            json=without_none(cron=cron, every=every, timezone=timezone, count=count),
        )

    def runs(self, schedule: str, *, limit: int | None = None) -> Sequence[ScheduledRun]:
        """List the results of recent scheduled runs, newest first. The last hundred are kept.

        ``limit``: (default: ``20``).
        """
        return self._transport.request(
            "GET",
            at("api", "schedules", check_path_name(schedule, "a schedule"), "runs"),
            list[ScheduledRun],
            query=without_none(limit=limit),
        )
