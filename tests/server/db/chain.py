"""Migrations after the newest one, in ``later``, so that upgrading an old home is tested whatever has been released."""

from __future__ import annotations

import os
from pathlib import Path

from alembic.config import Config

from portico_server.db import migrate

LATER = Path(__file__).parent / "later"

HEAD = "9002"
"""The newest of these migrations."""

_config = migrate.config


def config() -> Config:
    """Return `migrate.config` with these migrations."""
    result = _config()
    released = Path(migrate.__file__).parent / "migrations" / "versions"
    result.set_main_option("version_locations", os.pathsep.join(map(str, (released, LATER))))
    result.set_main_option("path_separator", "os")
    return result
