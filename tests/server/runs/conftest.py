"""A database and a daemon's runner that uses it, for tests that do not create their own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.server.runs.asking import AskingRunner

from portico_server.db.database import Database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()
    yield database
    database.close()


@pytest.fixture
async def asking(database: Database) -> AsyncIterator[AskingRunner]:
    daemon = AskingRunner(database)
    yield daemon
    await daemon.runner.close()
