"""Requests about the daemon itself."""

from __future__ import annotations

from typing import Any

from portico import _read as read
from portico._calls.call import Call, given
from portico.values import (
    Setting,
    Status,
    Vacuumed,
)


def health() -> Call[dict[str, Any]]:
    return Call("GET", "/health", read.mapping)


def status() -> Call[Status]:
    return Call("GET", "/api/status", read.status)


def settings() -> Call[list[Setting]]:
    return Call("GET", "/api/settings", read.rows(read.setting))


def usage(since: float | None) -> Call[list[dict[str, Any]]]:
    return Call("GET", "/api/usage", read.rows(read.mapping), query=given(since=since))


def backup(models: bool) -> Call[bytes]:
    return Call("GET", "/api/backup", bytes, query={"models": str(models).lower()}, raw=True, slow=True)


def vacuum() -> Call[Vacuumed]:
    return Call("POST", "/api/vacuum", read.vacuumed, slow=True)


def shutdown() -> Call[None]:
    return Call("POST", "/api/shutdown", read.nothing)
