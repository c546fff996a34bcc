"""Database migrations to the schema of this version. Imported only if a database must be migrated."""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine

from portico_server.core.errors import Unavailable
from portico_server.db.revision import WITHDRAWN_FROM, revision, set_revision

logger = logging.getLogger(__name__)

BASELINE = "0041"
"""The first migration. Migrations with lower numbers were never released (decision 0154)."""

MIGRATING = "migrating"
"""The schema of a database into which `portico migrate` has not yet copied everything."""

TO_DO_IF_UNRELEASED = "Open it once with the commit 26cc6b1d ('git checkout 26cc6b1d' in a clone of Portico)"
"""How to migrate a database from before the first release to the baseline: with the last commit before the baseline."""


def config() -> Config:
    """Return Alembic's configuration, without a file."""
    result = Config()
    result.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return result


def is_known(number: str) -> bool:
    """Return whether this version of Portico contains a migration."""
    try:
        return ScriptDirectory.from_config(config()).get_revision(number) is not None
    except CommandError:
        return False


def is_unreleased(number: str) -> bool:
    """Return whether a database is at a migration from before the first release, which the baseline has replaced."""
    return re.fullmatch(r"\d{4}", number) is not None and number < BASELINE


def upgrade(engine: Engine) -> tuple[str, str] | None:
    """Migrate a SQLite file with `bring_up`, in one transaction."""
    with _rebuilding(engine) as connection:
        return bring_up(connection)


def bring_up(connection: Connection) -> tuple[str, str] | None:
    """Run all missing migrations in the transaction of ``connection``. Return the schemas before and after, or ``None``
    for a new database.

    Raises `Unavailable`, without changing anything, if the database is from before the first release, from a newer
    version, or the target of an interrupted `portico migrate`.
    """
    settings = config()
    number = revision(connection)
    if number is not None and is_unreleased(number):
        raise Unavailable(
            f"The database has the schema {number}, from before the first release. This version opens {BASELINE} "
            f"and later. Nothing was changed. {TO_DO_IF_UNRELEASED}, or use another home folder (PORTICO_HOME).",
            code="database_unreleased",
        )
    if number == MIGRATING:
        raise Unavailable(
            "A migration into this database was interrupted. Run the same 'portico migrate' command again, which "
            "continues it, or use an empty database.",
            code="migration_interrupted",
        )
    settings.attributes["connection"] = connection
    target = ScriptDirectory.from_config(settings).get_current_head() or ""
    if number is not None and number != target and is_known(number):
        logger.info("Migrating the database from schema %s to %s", number, target)
    if number == WITHDRAWN_FROM:
        set_revision(connection, number)
    try:
        command.upgrade(settings, "head")
    except CommandError as error:
        raise Unavailable(
            f"The database was created by a newer version of Portico ({error}), and cannot be downgraded. "
            "Nothing was changed. Install that version, restore an older backup (portico restore), or use "
            "another home folder (PORTICO_HOME).",
            code="database_newer",
        ) from error
    if number is None:
        return None
    logger.info("The database has the schema %s", target)
    return number, target


@contextmanager
def _rebuilding(engine: Engine) -> Iterator[Connection]:
    """Yield a connection in a transaction in which tables can be rebuilt.

    Rebuilding drops the old table, which would normally also delete the rows in other tables that refer to it.
    """
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                yield connection
        finally:
            driver.execute("PRAGMA foreign_keys=ON")
