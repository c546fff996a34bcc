"""Homes, places to migrate them to, processes to kill, and commands as in the tests of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import postgres
from tests.client.cli.conftest import command
from tests.daemon import environment
from tests.server.db.test_homes import HOMES, unpacked
from tests.server.features.backup.victim import Victim
from tests.server.features.sources.store import ACCESS, REGION, SECRET, ObjectStore, serving

from portico_server.db.database import Database

__all__ = ["command"]


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with rows in many tables and with files, migrated to the schema of today."""
    home = tmp_path / "home"
    unpacked(HOMES[-1], home)
    database = Database.at(home / "portico.db")
    database.prepare()
    database.close()
    return home


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """A bucket ``shop``, whose address and credentials are in the environment."""
    with serving() as store:
        store.buckets["shop"] = {}
        monkeypatch.setenv("PORTICO_S3_ENDPOINT", store.url)
        monkeypatch.setenv("PORTICO_S3_REGION", REGION)
        monkeypatch.setenv("PORTICO_S3_ACCESS_KEY", ACCESS)
        monkeypatch.setenv("PORTICO_S3_SECRET_KEY", SECRET)
        yield store


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """The folder for temporary files of a victim."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def victim(store: ObjectStore, scratch: Path) -> Iterator[Victim]:
    """Runs commands, which can use the bucket ``shop``, in processes that are killed."""
    bucket = {
        "PORTICO_S3_ENDPOINT": store.url,
        "PORTICO_S3_REGION": REGION,
        "PORTICO_S3_ACCESS_KEY": ACCESS,
        "PORTICO_S3_SECRET_KEY": SECRET,
    }
    with Victim(environment(TMPDIR=str(scratch), **bucket)) as victim:
        yield victim
