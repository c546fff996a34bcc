"""The schema of a database, as the number of its last migration."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, inspect, text

WITHDRAWN: Final = "0045"
"""A migration of this number was withdrawn 14 commits later, and its columns became part of 0044. Later, another one
of this number began without ``stores.facts_of``.
"""

WITHDRAWN_FROM: Final = "0044"


def revision(connection: Connection) -> str | None:
    """Return the schema of a database, or ``None`` if it has none.

    A database with one of these migrations counts as 0044, because it lacks what the present 0045 adds.
    """
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    number: str | None = connection.execute(text("select version_num from alembic_version")).scalar()
    if number == WITHDRAWN and all(
        column["name"] != "facts_of" for column in inspect(connection).get_columns("stores")
    ):
        return WITHDRAWN_FROM
    return number


def set_revision(connection: Connection, number: str) -> None:
    """Record a schema without migrating."""
    connection.execute(text("update alembic_version set version_num = :number"), {"number": number})
