"""Bring a database to the schema of this version. Imported only when there is something to migrate."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Engine

from portico_server.core.errors import Unavailable


def config() -> Config:
    """Alembic's configuration, without a file."""
    result = Config()
    result.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return result


def head() -> str | None:
    """The newest migration on disk."""
    return ScriptDirectory.from_config(config()).get_current_head()


def is_known(revision: str) -> bool:
    """Whether a migration is one of this version's."""
    try:
        return ScriptDirectory.from_config(config()).get_revision(revision) is not None
    except CommandError:
        return False


def upgrade(engine: Engine) -> None:
    """Run all missing migrations in one transaction."""
    settings = config()
    try:
        with engine.begin() as connection:
            settings.attributes["connection"] = connection
            command.upgrade(settings, "head")
    except CommandError as error:
        raise Unavailable(
            f"The database was made by a newer version of Portico ({error}), and cannot be taken back to this one. "
            "Nothing was changed. Install that version, restore a backup from before (portico restore), or use another "
            "home folder (PORTICO_HOME).",
            code="database_newer",
        ) from error
