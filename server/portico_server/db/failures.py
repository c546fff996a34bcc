"""Translates database errors into errors for the caller."""

from __future__ import annotations

import logging
import sqlite3

from sqlalchemy.exc import (
    DatabaseError,
    DataError,
    DBAPIError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from portico_server.core.errors import InvalidRequest, PorticoError, Unavailable

logger = logging.getLogger(__name__)

DATABASE_ERRORS = (SQLAlchemyError, sqlite3.Error, OverflowError)
"""Exceptions of a database, including those of its driver, which some code calls without SQLAlchemy for speed. A
number of more than 64 bits raises `OverflowError`.
"""


RETRY_S = 2.0
"""Seconds after which the client may retry."""


CONNECTION_LOST_STATES = ("08", "25P03", "57P", "53300")
"""SQLSTATE prefixes of errors that concern the connection or the server rather than the statement."""


NO_TEXT_STATES = ("22021", "22P05")
"""PostgreSQL's error codes for U+0000 in a text, and in a text within JSON."""


def is_away(error: Exception) -> bool:
    """Return whether an error means that a networked database cannot be reached or closes connections."""
    cause = getattr(error, "orig", error)
    if isinstance(error, OSError):  # a connection failed or timed out
        return True
    if isinstance(cause, sqlite3.Error) or not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    state = getattr(cause, "sqlstate", None)
    if state is None:
        return isinstance(error, OperationalError | InterfaceError)
    return str(state).startswith(CONNECTION_LOST_STATES)


def explain(error: Exception, place: str, *, is_shared: bool) -> PorticoError:
    """Return the error for the caller. ``place`` is the path of the file; with ``is_shared``, several daemons use the
    database.
    """
    if isinstance(error, PoolTimeout):
        return Unavailable(
            "All connections to the database are in use. Try again in a moment.",
            code="busy",
            retry_after=RETRY_S,
        )
    if is_away(error):
        logger.error("the database does not respond: %s", getattr(error, "orig", error))
        return Unavailable(
            "The database does not respond. Nothing was changed; try again in a moment. The operator can "
            "find the reason in the log.",
            code="database_unavailable",
            retry_after=RETRY_S,
        )
    if getattr(getattr(error, "orig", error), "sqlstate", None) in NO_TEXT_STATES:
        return InvalidRequest(
            "A string in the request contains the character U+0000, which the database cannot store. Remove "
            "it.",
            code="invalid_value",
        )
    reason = str(getattr(error, "orig", error)).lower()
    if isinstance(error, OverflowError | DataError):
        return InvalidRequest(
            f"A value exceeds what the database can store: {reason[:200]}.", code="value_out_of_range"
        )
    if "full" in reason and isinstance(error, OperationalError | sqlite3.OperationalError):
        return Unavailable(
            f"The disk of {place} is full. Nothing was changed; free some space and try again.",
            code="disk_full",
        )
    if "i/o error" in reason:  # a completely full disk causes the same error
        return Unavailable(
            f"The disk of {place} is full or defective ({reason}). Nothing was changed; check the disk and "
            "try again.",
            code="disk_failed",
        )
    if "readonly" in reason:
        return Unavailable(
            f"The database {place} is read-only. Give this user write access, or set PORTICO_HOME to another "
            "folder.",
            code="database_readonly",
        )
    if isinstance(error, DatabaseError | sqlite3.DatabaseError) and (
        "malformed" in reason or "not a database" in reason
    ):
        return Unavailable(
            f"The database {place} is damaged ({reason}). Move it to another place, with its -wal and -shm "
            "files, and start again, which indexes the folders again; or restore it from a backup.",
            code="database_damaged",
        )
    if "locked" in reason:
        return Unavailable(f"Another program has locked the database {place}. Try again.", code="busy")
    if is_shared:  # the reason may contain host names, and values of other users
        logger.error("the database operation failed: %s", getattr(error, "orig", error))
        reason = "see the log for details"
    return PorticoError(f"The database operation failed: {reason}.", code="database_error")
