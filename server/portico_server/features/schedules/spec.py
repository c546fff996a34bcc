"""The contents of a schedule: parsed once, from a request or a configuration, into a typed value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, get_args

import orjson

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.invalid import not_one_of, wrong, wrong_type
from portico_server.core.names import check_name
from portico_server.features.schedules.timing import Timing

Missed: TypeAlias = Literal["skip", "once", "all"]
"""What a schedule does about due times at which no daemon was running: nothing, one run, or a run for each time."""

Overlap: TypeAlias = Literal["skip", "queue", "allow"]
"""What a schedule does at a due time while its previous run is in progress: nothing, a run after it, or a
concurrent run.
"""

TargetKind: TypeAlias = Literal["app", "store"]

MAX_INPUT_BYTES: Final = 64 * 1024
"""Maximum size of an input as JSON, in bytes."""

MAX_TARGET_CHARS: Final = 200
"""Maximum characters of the name of an app or a store."""

DEFAULT_FAILURES_COUNT: Final = 5
"""Default number of consecutive failures after which a schedule is paused."""

MAX_PAUSE_AFTER: Final = 1_000

FIELDS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "name": str,
    "app": str,
    "store": str,
    "input": object,
    "cron": str,
    "every": str,
    "timezone": str,
    "missed": str,
    "overlap": str,
    "pause_after": int,
}


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """A requested schedule: ``target`` is the name of an app, called with ``input``, or of a store, which syncs.

    ``pause_after``: consecutive failures after which the schedule is paused; 0 means never.
    """

    name: str
    kind: TargetKind
    target: str
    input: Any
    timing: Timing
    missed: Missed = "once"
    overlap: Overlap = "skip"
    pause_after: int = DEFAULT_FAILURES_COUNT

    def values(self) -> dict[str, Any]:
        """Return the columns of a row that the spec determines."""
        return {
            "name": self.name,
            "kind": self.kind,
            "target": self.target,
            "input": self.input,
            "cron": self.timing.cron,
            "every": self.timing.every,
            "timezone": self.timing.timezone,
            "missed": self.missed,
            "overlap": self.overlap,
            "pause_after": self.pause_after,
        }


def parse(fields: Mapping[str, Any], at: str = "") -> ScheduleSpec:
    """Parse a schedule from its fields; ``at`` is its place in a configuration. Raise `InvalidRequest`."""
    try:
        return _parse({name: value for name, value in fields.items() if value is not None})
    except InvalidRequest as error:
        if not at:
            raise
        place = f"{at}.{error.param}" if error.param else at
        raise InvalidRequest(f"{place}: {error.message}", code=error.code, param=place) from error


def _parse(fields: Mapping[str, Any]) -> ScheduleSpec:
    for field, value in fields.items():
        if field not in FIELDS:
            raise InvalidRequest(
                f"A schedule has no field '{field[:80]}'.{nearest(field, FIELDS)}",
                code="unknown_parameter",
                param=field,
            )
        if not isinstance(value, FIELDS[field]) or (field == "pause_after" and isinstance(value, bool)):
            wrong_type(field, "a whole number" if field == "pause_after" else "a string", value)
    name = fields.get("name", "")
    check_name(name, "a schedule")
    kind: TargetKind = "app" if "app" in fields else "store"
    if ("app" in fields) == ("store" in fields):
        raise InvalidRequest(
            "A schedule needs either an 'app' to call, or a 'store' to sync.",
            code="missing_required_parameter" if "app" not in fields else "invalid_value",
            param="app",
        )
    target = fields[kind]
    if not 0 < len(target) <= MAX_TARGET_CHARS:
        wrong(kind, f"must have 1 to {MAX_TARGET_CHARS} characters")
    if kind == "store" and "input" in fields:
        wrong("input", "is only for an app; a store sync has no input")
    missed_policy, overlap = fields.get("missed", "once"), fields.get("overlap", "skip")
    for field, value, special_form in (("missed", missed_policy, Missed), ("overlap", overlap, Overlap)):
        if value not in get_args(special_form):
            not_one_of(field, value, get_args(special_form))
    pause_after = fields.get("pause_after", DEFAULT_FAILURES_COUNT)
    if not 0 <= pause_after <= MAX_PAUSE_AFTER:
        wrong("pause_after", f"must be from 0 (never) to {MAX_PAUSE_AFTER}")
    return ScheduleSpec(
        name,
        kind,
        target,
        _checked_input(fields.get("input")),
        Timing.parse(fields.get("cron"), fields.get("every"), fields.get("timezone")),
        missed_policy,
        overlap,
        pause_after,
    )


def _checked_input(value: Any) -> Any:
    try:
        size = len(orjson.dumps(value))
    except TypeError:
        wrong("input", "must be JSON, with integers of at most 64 bits")
    if size > MAX_INPUT_BYTES:
        raise InvalidRequest(
            f"The input has {size:,} bytes; a schedule stores at most {MAX_INPUT_BYTES:,}. Put large data "
            "into a store, and let the app read it from the store.",
            code="input_too_large",
            param="input",
        )
    return value
