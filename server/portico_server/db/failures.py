"""Explain what a database raises to the caller."""

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
"""What a database raises: its driver is spoken to past SQLAlchemy where that counts. A number of more than 64 bits
is an `OverflowError`.
"""


RETRY_S = 2.0
"""Seconds after which it makes sense to ask again where it does not."""


CONNECTION_LOST_STATES = ("08", "25P03", "57P", "53300")
"""What the SQLSTATE of an error begins with that means the connection, or the server, and not the statement."""


NO_TEXT_STATES = ("22021", "22P05")
"""The codes of PostgreSQL for U+0000 in a text, and in one within JSON."""


def is_away(error: Exception) -> bool:
    """Whether a database behind a network cannot be reached, or ends connections."""
    cause = getattr(error, "orig", error)
    if isinstance(error, OSError):  # a connection could not be made, or did not answer in time
        return True
    if isinstance(cause, sqlite3.Error) or not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    state = getattr(cause, "sqlstate", None)
    if state is None:
        return isinstance(error, OperationalError | InterfaceError)
    return str(state).startswith(CONNECTION_LOST_STATES)


def explain(error: Exception, where: str, *, is_shared: bool) -> PorticoError:
    """What to tell the caller of ``error``. ``where``: the file; ``is_shared``: a database of several daemons."""
    if isinstance(error, PoolTimeout):
        return Unavailable(
            "All connections to the database are in use. Try again in a moment.",
            code="busy",
            retry_after=RETRY_S,
        )
    if is_away(error):
        logger.error("the database does not answer: %s", getattr(error, "orig", error))
        return Unavailable(
            "The database does not answer. Nothing was changed; try again in a moment. The operator finds the "
            "reason in the log.",
            code="database_unavailable",
            retry_after=RETRY_S,
        )
    if getattr(getattr(error, "orig", error), "sqlstate", None) in NO_TEXT_STATES:
        return InvalidRequest(
            "A text of the request has the character U+0000, which the database cannot hold. Leave it out.",
            code="invalid_value",
        )
    reason = str(getattr(error, "orig", error)).lower()
    if isinstance(error, OverflowError | DataError):
        return InvalidRequest(
            f"A value is beyond what the database can hold: {reason[:200]}.", code="value_out_of_range"
        )
    if "full" in reason and isinstance(error, OperationalError | sqlite3.OperationalError):
        return Unavailable(
            f"The disk that holds {where} is full. Nothing was changed; free some space and try again.",
            code="disk_full",
        )
    if "i/o error" in reason:  # a disk without any room at all fails so, too
        return Unavailable(
            f"The disk that holds {where} is full or does not work ({reason}). Nothing was changed; look at it, "
            "and try again.",
            code="disk_failed",
        )
    if "readonly" in reason:
        return Unavailable(
            f"The database {where} may only be read. Let this user write it, or set PORTICO_HOME to another one.",
            code="database_readonly",
        )
    if isinstance(error, DatabaseError | sqlite3.DatabaseError) and (
        "malformed" in reason or "not a database" in reason
    ):
        return Unavailable(
            f"The database {where} is damaged ({reason}). Move it aside, with its -wal and -shm files, and start "
            "again: folders are indexed again; or restore it from a backup.",
            code="database_damaged",
        )
    if "locked" in reason:
        return Unavailable(f"The database {where} is held by another program. Try again.", code="busy")
    if is_shared:  # it may name hosts, and values of other people
        logger.error("the database could not do that: %s", getattr(error, "orig", error))
        reason = "the log has the details"
    return PorticoError(f"The database could not do that: {reason}.", code="database_error")
