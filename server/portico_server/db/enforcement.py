"""Daemons on one PostgreSQL that do not enforce every restriction of this version.

The name of each connection (``application_name``) states up to which level its daemon enforces restrictions.
PostgreSQL forgets the connections of a daemon that ends, so no record outlives its daemon. The connections of daemons
from before this record have the name ``portico``: they count as level 0. SQLite has one daemon.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

from sqlalchemy import Connection, Text, cast, select, text

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict
from portico_server.db.schema import guard_questions, keys, stores

Restriction: TypeAlias = Literal["rights", "guard", "filters"]
"""The rights of a store, guard questions of a store that holds changes, and filters of keys."""

LEVELS: Final[Mapping[Restriction, int]] = {"rights": 1, "guard": 1, "filters": 1}
"""The level from which a daemon enforces each restriction. A new restriction gets the next level."""

LEVEL: Final = max(LEVELS.values())
"""The level of this version."""

APPLICATION_NAME: Final = f"portico/{LEVEL} {socket.gethostname()}".encode("ascii", "replace")[:63].decode()
"""The name of this daemon's connections. PostgreSQL stores 63 bytes."""

DAEMON_CONNECTIONS: Final = text(
    "select application_name, pid, host(client_addr) as address from pg_stat_activity "
    "where datname = current_database() and (application_name = 'portico' or application_name like 'portico/%') "
    "order by backend_start"
)
"""Query for the connections of daemons of any version, oldest first."""

OLDER_DAEMON_CODE: Final = "older_daemon"


@dataclass(frozen=True, slots=True)
class OlderDaemon:
    """A daemon that does not enforce every restriction. ``name`` says where it runs."""

    name: str
    level: int

    def ignores(self, restriction: Restriction) -> bool:
        """Return whether the daemon serves what the restriction withholds."""
        return self.level < LEVELS[restriction]


def older_daemons(connection: Connection) -> Sequence[OlderDaemon]:
    """Return the daemons on this database whose level is lower than `LEVEL`, in the order of their start."""
    if connection.dialect.name != "postgresql":
        return ()
    daemons: dict[tuple[str, int], OlderDaemon] = {}
    for row in connection.execute(DAEMON_CONNECTIONS):
        label = re.fullmatch(r"portico/(\d+) (.*)", row.application_name)
        level = int(label[1]) if label else 0
        host = label[2] if label else row.address or "the machine of the database"
        if level < LEVEL:
            daemons.setdefault((host, level), OlderDaemon(f"{host} (PostgreSQL process {row.pid})", level))
    return tuple(daemons.values())


def require_enforced(connection: Connection, restriction: Restriction) -> None:
    """Raise `Conflict` if a daemon on this database does not enforce a restriction that the transaction sets."""
    for daemon in older_daemons(connection):
        if daemon.ignores(restriction):
            raise Conflict(
                f"'{restriction}' cannot be set while an older daemon uses this database: the daemon on {daemon.name} "
                f"does not enforce it, and would serve what it withholds. Upgrade or stop that daemon, then try "
                "again. 'portico cluster status' lists the daemons.",
                code=OLDER_DAEMON_CODE,
                param=restriction,
            )


def restrictions_in_use(connection: Connection) -> Sequence[Restriction]:
    """Return the restrictions that the database contains."""
    guarded_stores = select(stores.c.id).join(guard_questions, guard_questions.c.store_id == stores.c.id)
    queries = {
        "rights": select(stores.c.id).where(cast(stores.c.rights, Text) != "null"),
        "guard": guarded_stores.where(stores.c.guard == "hold"),
        "filters": select(keys.c.id).where(keys.c.revoked_at.is_(None), cast(keys.c.filters, Text) != "null"),
    }
    return [name for name in LEVELS if connection.execute(queries[name].limit(1)).first() is not None]
