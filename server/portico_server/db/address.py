"""Parsing of database URLs."""

from __future__ import annotations

import re
from importlib.util import find_spec

from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    SQLAlchemyError,
)

from portico_server.core.errors import InvalidRequest
from portico_server.subprocesses import own_interpreter


def parse_address(url: str) -> URL:
    """Return the URL as parsed by SQLAlchemy. Raises `InvalidRequest`, whose message omits the URL because it may
    contain a password.
    """
    try:
        found_url = make_url(re.sub("^postgres://", "postgresql://", url))
    except SQLAlchemyError as error:
        raise _no_address() from error
    if found_url.drivername in ("sqlite", "sqlite+pysqlite"):
        return found_url
    if found_url.drivername not in ("postgresql", "postgresql+asyncpg"):
        raise _no_address()
    for package in ("asyncpg", "greenlet"):
        if find_spec(package) is None:
            raise InvalidRequest(
                "The setting 'database' names a PostgreSQL database, which requires the package "
                f"'{package}'. Install it: {own_interpreter()} -m pip install asyncpg greenlet",
                code="missing_package",
                param="database",
            )
    return found_url.set(drivername="postgresql")


def _no_address() -> InvalidRequest:
    return InvalidRequest(
        "The setting 'database' is not a PostgreSQL URL. The expected form is postgresql://USER@HOST/NAME; "
        "without the setting, the daemon stores its data in its home folder.",
        param="database",
    )
