"""Databases in this folder are migrated, not copied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import postgres, template_db

from portico_server.db import migrate
from portico_server.db.database import Database


@pytest.fixture(autouse=True)
def _migrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "upgrade", template_db.upgrade)


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Yield an empty database of each dialect."""
    if request.param == "sqlite":
        fresh_database = Database.at(tmp_path / "portico.db")
    else:
        fresh_database = Database(request.getfixturevalue("server").new())
    fresh_database.prepare()
    yield fresh_database
    fresh_database.close()
