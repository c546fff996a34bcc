"""The daemon's own configuration file: read at startup, and again on SIGHUP or `portico apply`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from portico.schemas.configuration import Applied, Problem
from portico_server import config
from portico_server.config import Configuration
from portico_server.core import pools
from portico_server.core.errors import Conflict, PorticoError, Unavailable
from portico_server.core.name_claims import NameClaims
from portico_server.core.principal import Principal
from portico_server.db.database import Database
from portico_server.feature_table import Features
from portico_server.problems import Problems
from portico_server.reconcile import FILE_KINDS, Reconciler
from portico_server.settings import load

logger = logging.getLogger(__name__)

LOCK_WAIT_S = 120.0
"""Seconds for which a daemon waits while another daemon on the same database applies its configuration."""


@asynccontextmanager
async def hold_lock(database: Database, advice: str) -> AsyncIterator[None]:
    """Hold the lock under which one daemon on a database at a time applies its configuration. Raise `Unavailable` with
    ``advice`` if another daemon keeps it for `LOCK_WAIT_S` seconds.
    """
    async with database.exclusive("configuration", wait_s=LOCK_WAIT_S) as is_ours:
        if not is_ours:
            raise Unavailable(
                f"Another daemon on this database has been applying its configuration for {LOCK_WAIT_S:g} s. {advice}"
            )
        yield


class ConfigurationFile:
    """Applies the file that the daemon was started with, and remembers what the file defined."""

    def __init__(
        self,
        reconciler: Reconciler,
        problems: Problems,
        claims: NameClaims,
        features: Features,
        database: Database,
    ) -> None:
        self._reconciler = reconciler
        self._problems = problems
        self._claims = claims
        self._features = features
        self._database = database
        self._path: Path | None = None
        self._at_start = Configuration()
        self._defined: set[tuple[str, str]] = set()
        """Kinds and names that the file has defined since it was last applied completely."""
        self._failure: Problem | None = None
        self._applying = asyncio.Lock()

    def start(self, path: Path | None, configuration: Configuration) -> None:
        """Remember the file and its contents, which the daemon applies at startup."""
        self._path = path.absolute() if path is not None else None
        self._at_start = configuration
        self._defined = _definitions(configuration)

    async def apply(self, caller: Principal, *, dry_run: bool = False) -> Applied:
        """Read the file again, and apply what differs. ``ignored`` in the result names what needs a restart.

        Raise `PorticoError` if the file or an entry in it is invalid. Unless ``dry_run``, the status then shows the
        error until the file has been applied. An invalid file changes nothing.
        """
        if self._path is None:
            raise Conflict(
                "This daemon was started without a configuration file. Pass one with --file, or restart the "
                "daemon with 'portico up -f FILE'.",
                code="no_configuration_file",
                param="configuration",
            )
        async with self._applying:
            try:
                applied = await self._apply(self._path, caller, dry_run=dry_run)
            except PorticoError as error:
                if not dry_run:
                    self._report(self._path, error)
                raise
            if not dry_run:
                self._failure = None
            return applied

    async def apply_and_log(self, caller: Principal) -> None:
        """Apply the file, and log the result."""
        try:
            applied = await self.apply(caller)
        except PorticoError as error:
            logger.warning("the configuration file was not applied: %s", error.message)
            return
        except Exception:
            logger.exception("the configuration file was not applied")
            return
        changes = [f"{x.action} {x.kind}/{x.name}" for x in applied.changes if x.action != "unchanged"]
        logger.info("configuration applied from %s: %s", self._path, ", ".join(changes) or "no changes")
        if applied.ignored:
            logger.warning("restart the daemon to apply: %s", ", ".join(applied.ignored))

    async def _apply(self, path: Path, caller: Principal, *, dry_run: bool) -> Applied:
        configuration = await pools.FILES.run(config.read, path)
        load(file=configuration.settings)  # raises an error for an invalid setting
        async with hold_lock(self._database, "Try again after it has finished."):
            old_definitions = frozenset(self._defined)
            if not dry_run:
                self._claims.reserve(configuration.names())
                self._defined |= _definitions(configuration)
            changes = await self._reconciler.apply(
                configuration, caller, dry_run=dry_run, defined=old_definitions
            )
        if not dry_run:
            self._defined = _definitions(configuration)
            self._features.set_entries(configuration.entries)
            self._problems.forget_applied(configuration)
        return Applied(
            changes=tuple(changes), dry_run=dry_run, ignored=_needs_restart(self._at_start, configuration)
        )

    def _report(self, path: Path, error: PorticoError) -> None:
        """Show the error in the status until the file has been applied."""
        problem = self._failure = Problem(path.name, "file", error.message)

        async def holds() -> bool:
            return self._failure is problem

        self._problems.add(problem, holds)


def _definitions(configuration: Configuration) -> set[tuple[str, str]]:
    return {(kind, spec.name) for kind in FILE_KINDS for spec in configuration.of(kind)}


def _needs_restart(old: Configuration, new: Configuration) -> tuple[str, ...]:
    """Return the parts of the file that differ from its state at startup and are read only then."""
    names = sorted(old.settings.keys() | new.settings.keys())
    settings = [f"settings.{name}" for name in names if old.settings.get(name) != new.settings.get(name)]
    return (*(kind for kind in ("keys", "roles") if getattr(old, kind) != getattr(new, kind)), *settings)
