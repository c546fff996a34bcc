"""A database and a daemon's runner over it, for tests that do not make their own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.server.runs.asking import House

from portico_server.db.database import Database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()
    yield database
    database.close()


@pytest.fixture
async def house(database: Database) -> AsyncIterator[House]:
    house = House(database)
    yield house
    await house.runner.close()
