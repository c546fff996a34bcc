"""Limits for the number of connections, and for the file descriptors that connections need."""

from __future__ import annotations

import contextlib
from typing import Final

from portico_server.core.dataclass import dataclass
from portico_server.settings import Settings

RESERVED_DESCRIPTOR_COUNT: Final = 256
"""File descriptors of the process reserved for the database, files, indexes and child processes."""

WANTED_DESCRIPTOR_COUNT: Final = 65_536
MAX_CONNECTIONS: Final = 10_000
MIN_CONNECTIONS: Final = 16


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Maximum numbers of connections, and timeouts for clients in seconds.

    Of all ``connections``, at most ``strangers`` may be without an authenticated request, and at most ``per_address``
    of these may come from one address. One key may have requests in progress on ``per_key`` connections.
    """

    connections: int
    strangers: int
    per_address: int
    per_key: int
    header_timeout: float
    body_timeout: float
    idle_timeout: float

    @classmethod
    def of(cls, settings: Settings) -> ConnectionLimits:
        """Derive the limits from the settings and the file descriptors available to this process."""
        limit = settings.max_connections or _fitting()
        strangers = max(1, limit * 3 // 4)
        return cls(
            connections=limit,
            strangers=strangers,
            per_address=min(settings.max_connections_per_address or max(1, strangers // 2), strangers),
            per_key=max(1, limit // 2),
            header_timeout=settings.header_timeout,
            body_timeout=settings.body_timeout,
            idle_timeout=settings.idle_timeout,
        )


def raise_descriptor_limit() -> int:
    """Raise the file descriptor limit up to `WANTED_DESCRIPTOR_COUNT`, and return the limit."""
    try:
        import resource
    except ImportError:  # not available on Windows
        return WANTED_DESCRIPTOR_COUNT
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return WANTED_DESCRIPTOR_COUNT
    wanted_limit = (
        WANTED_DESCRIPTOR_COUNT if hard == resource.RLIM_INFINITY else min(hard, WANTED_DESCRIPTOR_COUNT)
    )
    # macOS reports that it allows any number but grants no more than 10,240.
    for limit in (wanted_limit, 10_240):
        if soft < limit <= wanted_limit:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
                return limit
    return soft


def _fitting() -> int:
    """Return how many connections the file descriptors allow after reserving `RESERVED_DESCRIPTOR_COUNT`."""
    try:
        import resource
    except ImportError:
        return MAX_CONNECTIONS
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(MIN_CONNECTIONS, (soft - RESERVED_DESCRIPTOR_COUNT) * 3 // 4))
