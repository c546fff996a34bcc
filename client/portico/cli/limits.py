"""Parses and formats limits of keys and apps on the command line: NAME=NUMBER."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from portico.errors import InvalidRequest


def limits_of(pairs: Iterable[str]) -> dict[str, int]:
    """Parse limits and return them keyed by name. Raises `InvalidRequest` for a limit that is not NAME=NUMBER."""
    limits = {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        if not name or not number.isdecimal():
            raise InvalidRequest(
                f"'{pair}' is not a limit: expected NAME=NUMBER, such as tokens_per_day=100000."
            )
        limits[name] = int(number)
    return limits


def format_limits(limits: Mapping[str, int] | None) -> tuple[str, ...]:
    """Format limits for display, such as ``tokens_per_day=100000``."""
    return tuple(f"{name}={number}" for name, number in (limits or {}).items())
