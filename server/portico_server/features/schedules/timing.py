"""The due times of a schedule: a cron expression in a time zone, or an interval. Pure. Times are in seconds since
1970.

Sources: https://man7.org/linux/man-pages/man5/crontab.5.html and
https://manpages.debian.org/stable/cron/cron.8.en.html#NOTES for clock changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from typing import Final, NoReturn
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.core.names import excerpt

MIN_INTERVAL_S: Final = 60
"""Minimum seconds between two runs, which is cron's finest step."""

MAX_INTERVAL_S: Final = 366 * 86_400
"""Maximum length of an interval, in seconds."""

MAX_CRON_CHARS: Final = 100
"""Maximum characters of a cron expression."""

MAX_ZONE_CHARS: Final = 64
"""Maximum characters of the name of a time zone."""

DEFAULT_ZONE: Final = "UTC"

SHORTCUTS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
"""Shortcuts, with the five fields for which they stand."""

_FIRST_WINDOW_S: Final = 3_600.0
_WINDOW_FACTOR: Final = 8
_CRON: Final = re.compile(r"[0-9A-Za-z*/,#\- ]+")
_EVERY: Final = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?")
_UNITS_S: Final = (86_400, 3_600, 60, 1)


@dataclass(frozen=True, slots=True)
class Timing:
    """When a schedule is due.

    Either ``cron``, five fields or one of `SHORTCUTS`, in the local time of ``timezone``, or ``every``, such as
    ``15m`` or ``1h30m``.
    """

    cron: str | None
    every: str | None
    timezone: str = DEFAULT_ZONE

    @classmethod
    def parse(cls, cron: str | None, interval: str | None, timezone: str | None = None) -> Timing:
        """Parse a timing. Raise `InvalidRequest` that names the problem, also for times that never occur."""
        if (cron is None) == (interval is None):
            raise InvalidRequest(
                "A schedule needs either 'cron', such as '0 7 * * 1-5' or '@daily', or 'every', such as '15m'.",
                code="missing_required_parameter" if cron is None else "invalid_value",
                param="cron",
            )
        zone = DEFAULT_ZONE if timezone is None else timezone
        _zone(zone)
        if interval is not None:
            _interval(interval)
            return cls(None, interval, zone)
        assert cron is not None
        timing = cls(_check(cron), None, zone)
        if timing.next_due(0.0, 0.0) is None:
            _wrong_cron(cron, "no such day occurs in the next 50 years")
        return timing

    def next_due(self, moment: float, anchor: float) -> float | None:
        """Return the first due time after ``moment``. Intervals are counted from ``anchor``."""
        return next(self.times(moment, anchor), None)

    def times(self, moment: float, anchor: float) -> Iterator[float]:
        """Yield the due times after ``moment``, in order and without end. Intervals are counted from ``anchor``."""
        if self.every is not None:
            step = _interval(self.every)
            number = int((moment - anchor) // step) + 1
            while True:
                due = anchor + number * step
                if due > moment:
                    yield due
                number += 1
        yield from _cron_times(str(self.cron), _zone(self.timezone), moment)

    def last(self, since: float, until: float, anchor: float, limit: int) -> list[float]:
        """Return the last due times from ``since`` to ``until``, both inclusive, in order; at most ``limit``.

        Searches backwards in growing steps, so that a daemon that was down for a year does not compute every minute.
        """
        window = _FIRST_WINDOW_S
        while True:
            start = max(since, until - window)
            # Start one second earlier, to include a due time that equals the start.
            due_times = [due for due in _until(self.times(start - 1.0, anchor), until) if due >= start]
            if len(due_times) >= limit or start <= since:
                return due_times[-limit:]
            window *= _WINDOW_FACTOR


def _until(times: Iterator[float], until: float) -> Iterator[float]:
    for due in times:
        if due > until:
            return
        yield due


def _cron_times(cron: str, zone: tzinfo, moment: float) -> Iterator[float]:
    """Yield the due times of a cron expression.

    If the expression names hours, a time of day that a clock change skips is due after the change, and a time of day
    that occurs twice is due once. If its hours are ``*``, its times follow elapsed time.
    """
    last = moment
    for due in CronSim(_plain(cron), datetime.fromtimestamp(int(moment // 1), UTC).astimezone(zone)):
        due_time = due.timestamp()
        if due_time > last:  # in the repeated hour of a clock change, skip times that have already occurred
            last = due_time
            yield due_time


def _plain(cron: str) -> str:
    """Return the expression for CronSim, which follows elapsed time if a field begins with a star.

    If the expression names hours, stars at the beginning of minute and hour are therefore written as ranges.
    """
    minute, hour, *later_fields = SHORTCUTS.get(cron, cron).split()
    if hour != "*":
        minute = re.sub(r"^\*", "0-59", minute)
        hour = re.sub(r"^\*", "0-23", hour)
    return " ".join((minute, hour, *later_fields))


def _check(cron: str) -> str:
    """Return the expression with single spaces. Raise `InvalidRequest` if it is not valid."""
    text = " ".join(cron.split())
    if text.startswith("@"):
        if text.lower() not in SHORTCUTS:
            _wrong_cron(cron, f"a shortcut with @ must be one of {', '.join(SHORTCUTS)}")
        return text.lower()
    if len(cron) > MAX_CRON_CHARS or not _CRON.fullmatch(text):
        _wrong_cron(cron, f"expected at most {MAX_CRON_CHARS} letters, digits and * / , - #")
    if len(text.split()) != 5:
        _wrong_cron(cron, "expected five fields: minute, hour, day of the month, month, day of the week")
    try:
        CronSim(_plain(text), datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        reason = str(error)
        _wrong_cron(cron, reason[:1].lower() + reason[1:])
    return text


def _wrong_cron(cron: str, reason: str) -> NoReturn:
    raise InvalidRequest(
        f"'{excerpt(cron)}' is not a cron expression: {reason}. '0 7 * * 1-5' is 7:00 from Monday to Friday.",
        code="invalid_cron",
        param="cron",
    )


def _zone(name: str) -> ZoneInfo:
    # Check the name first, because zoneinfo reads the file with that name.
    if 0 < len(name) <= MAX_ZONE_CHARS and re.fullmatch(r"[A-Za-z0-9_+\-]+(?:/[A-Za-z0-9_+\-]+)*", name):
        try:
            return ZoneInfo(name)
        except (
            KeyError,
            OSError,
            ValueError,
        ):  # an unknown name, a folder, or a file that is not a time zone
            pass
    raise InvalidRequest(
        f"'{excerpt(name)}' is not a time zone: expected a name of the IANA database, such as 'Europe/Berlin' "
        "or 'UTC'.",
        code="invalid_timezone",
        param="timezone",
    )


def _interval(text: str) -> int:
    """Return the seconds of an interval. Raise `InvalidRequest`."""
    match = _EVERY.fullmatch(text) if text else None
    seconds = 0
    if match is not None:
        seconds = sum(int(part or 0) * unit for part, unit in zip(match.groups(), _UNITS_S, strict=True))
    if not MIN_INTERVAL_S <= seconds <= MAX_INTERVAL_S:
        raise InvalidRequest(
            f"'{excerpt(text)}' is not a valid interval of a schedule: expected days, hours, minutes and "
            "seconds, such as '15m', '1h30m' or '7d', from one minute to 366 days.",
            code="invalid_interval",
            param="every",
        )
    return seconds
