"""When a schedule is due: a cron expression in a time zone, or an interval. Pure; moments in seconds since 1970.

Sources: https://man7.org/linux/man-pages/man5/crontab.5.html and
https://manpages.debian.org/stable/cron/cron.8.en.html#NOTES for what happens when the clocks change.
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
from portico_server.core.names import shown

MIN_INTERVAL_S: Final = 60
"""Seconds from one run to the next, at least: those of cron's finest step."""

MAX_INTERVAL_S: Final = 366 * 86_400
"""Seconds of the longest interval."""

MAX_CRON_CHARS: Final = 100
"""Characters of a cron expression."""

MAX_ZONE_CHARS: Final = 64
"""Characters of the name of a time zone."""

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
"""What stands for five fields."""

_FIRST_WINDOW_S: Final = 3_600.0
_WINDOW_FACTOR: Final = 8
_CRON: Final = re.compile(r"[0-9A-Za-z*/,#\- ]+")
_EVERY: Final = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?")
_UNITS_S: Final = (86_400, 3_600, 60, 1)


@dataclass(frozen=True, slots=True)
class Timing:
    """Either ``cron``, five fields or one of `SHORTCUTS`, read by the clocks of ``timezone``, or ``every``, such as
    ``15m`` or ``1h30m``.
    """

    cron: str | None
    every: str | None
    timezone: str = DEFAULT_ZONE

    @classmethod
    def parse(cls, cron: str | None, interval: str | None, timezone: str | None = None) -> Timing:
        """Raises `InvalidRequest` that names what is wrong; also for times that never come."""
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
        timing = cls(_checked(cron), None, zone)
        if timing.after(0.0, 0.0) is None:
            _wrong_cron(cron, "no such day comes in the next 50 years")
        return timing

    def after(self, moment: float, anchor: float) -> float | None:
        """The first due time after a moment; ``anchor``: from when on intervals are counted."""
        return next(self.times(moment, anchor), None)

    def times(self, moment: float, anchor: float) -> Iterator[float]:
        """All due times after a moment, in order, without end."""
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
        """The last due times from ``since`` to ``until``, both included, at most so many, in order.

        Looks back in steps that grow, so that a daemon which was away for a year does not count all minutes of it.
        """
        window = _FIRST_WINDOW_S
        while True:
            start = max(since, until - window)
            # A second before, for a time that is exactly the first.
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
    """Due times of an expression. Where it names hours, a time of the day that the clocks leave out is due when they
    have been set, and one that comes twice is due once; where its hours are ``*``, it is due as time passes.
    """
    last = moment
    for due in CronSim(_plain(cron), datetime.fromtimestamp(int(moment // 1), UTC).astimezone(zone)):
        due_time = due.timestamp()
        if due_time > last:  # begun in the hour that comes twice, what belongs to the first of them is over
            last = due_time
            yield due_time


def _plain(cron: str) -> str:
    """The expression as CronSim takes it: where hours are named, nothing begins with a star, which would make
    it follow the time that passes.
    """
    minute, hour, *later_fields = SHORTCUTS.get(cron, cron).split()
    if hour != "*":
        minute = re.sub(r"^\*", "0-59", minute)
        hour = re.sub(r"^\*", "0-23", hour)
    return " ".join((minute, hour, *later_fields))


def _checked(cron: str) -> str:
    """The expression in its plain form. Raises `InvalidRequest`."""
    text = " ".join(cron.split())
    if text.startswith("@"):
        if text.lower() not in SHORTCUTS:
            _wrong_cron(cron, f"what begins with @ is one of {', '.join(SHORTCUTS)}")
        return text.lower()
    if len(cron) > MAX_CRON_CHARS or not _CRON.fullmatch(text):
        _wrong_cron(cron, f"at most {MAX_CRON_CHARS} letters, digits and * / , - # were expected")
    if len(text.split()) != 5:
        _wrong_cron(cron, "five fields were expected: minute, hour, day of the month, month, day of the week")
    try:
        CronSim(_plain(text), datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        reason = str(error)
        _wrong_cron(cron, reason[:1].lower() + reason[1:])
    return text


def _wrong_cron(cron: str, reason: str) -> NoReturn:
    raise InvalidRequest(
        f"'{shown(cron)}' is not a cron expression: {reason}. '0 7 * * 1-5' is 7:00 from Monday to Friday.",
        code="invalid_cron",
        param="cron",
    )


def _zone(name: str) -> ZoneInfo:
    # By the name alone: what zoneinfo reads is a file of that name.
    if 0 < len(name) <= MAX_ZONE_CHARS and re.fullmatch(r"[A-Za-z0-9_+\-]+(?:/[A-Za-z0-9_+\-]+)*", name):
        try:
            return ZoneInfo(name)
        except (KeyError, OSError, ValueError):  # nobody knows it; it is a folder; it is another file
            pass
    raise InvalidRequest(
        f"'{shown(name)}' is not a time zone: a name of the IANA database was expected, such as 'Europe/Berlin' or "
        "'UTC'.",
        code="invalid_timezone",
        param="timezone",
    )


def _interval(text: str) -> int:
    """The seconds of an interval. Raises `InvalidRequest`."""
    match = _EVERY.fullmatch(text) if text else None
    seconds = 0
    if match is not None:
        seconds = sum(int(part or 0) * unit for part, unit in zip(match.groups(), _UNITS_S, strict=True))
    if not MIN_INTERVAL_S <= seconds <= MAX_INTERVAL_S:
        raise InvalidRequest(
            f"'{shown(text)}' is not an interval of a schedule: days, hours, minutes and seconds were expected, such "
            "as '15m', '1h30m' or '7d', of a minute at least and 366 days at most.",
            code="invalid_interval",
            param="every",
        )
    return seconds
