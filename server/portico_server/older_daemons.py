"""Reports daemons on the same PostgreSQL that do not enforce every restriction of this version."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection

from portico_server.core.errors import PorticoError
from portico_server.db.database import Database
from portico_server.db.enforcement import older_daemons, restrictions_in_use

logger = logging.getLogger(__name__)

WATCH_INTERVAL_S: Final = 5.0


class OlderDaemonWatch:
    """Reports older daemons on the same PostgreSQL: a daemon that starts later ignores what was set before."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def problem(self) -> str | None:
        """Return what an older daemon means for the restrictions, or ``None`` if there is none."""
        return None if self._database.postgres is None else await self._database.read(_problem)

    async def run(self, on_change: Callable[[], None]) -> None:
        """Log each change of the `problem`, and call ``on_change``. Runs until cancelled."""
        last_problem = None
        while True:
            try:
                problem = await self.problem()
            except PorticoError as error:
                logger.warning("cannot look for older daemons at the moment: %s", error.message)
            else:
                if problem != last_problem:
                    logger.warning(problem or "no older daemon uses the database any more")
                    last_problem = problem
                    on_change()
            await asyncio.sleep(WATCH_INTERVAL_S)


def _problem(connection: Connection) -> str | None:
    daemons = older_daemons(connection)
    if not daemons:
        return None
    used_names = [
        f"'{name}'"
        for name in restrictions_in_use(connection)
        if any(daemon.ignores(name) for daemon in daemons)
    ]
    effect = (
        f"It does not enforce {', '.join(used_names)}, and serves what they withhold"
        if used_names
        else "Restrictions that it does not enforce cannot be set"
    )
    return (
        f"An older daemon uses this database: {', '.join(daemon.name for daemon in daemons)}. {effect}. "
        "Upgrade or stop it."
    )
