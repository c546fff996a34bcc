"""Another program locks the database: reads continue, writes wait or are refused, and nothing is lost."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL
from tests.api_server import api_server

from portico_server.db.kept_connections import open_sqlite

LIMIT = 60
"""Seconds after which a test gives up."""

KEY = {"name": "phone", "scopes": ["chat"]}


@contextmanager
def held(home: Path) -> Iterator[None]:
    """Lock the database for writing, as a backup tool or an open shell does."""
    second_connection = sqlite3.connect(home / "portico.db", isolation_level=None)
    try:
        second_connection.execute("BEGIN IMMEDIATE")
        yield
        second_connection.execute("ROLLBACK")
    finally:
        second_connection.close()


async def test_a_write_waits_for_a_locked_database_and_is_stored_afterwards(tmp_path: Path) -> None:
    async with api_server(tmp_path) as daemon:
        with held(tmp_path):
            writing = asyncio.create_task(daemon.client.post("/api/keys", json=KEY))
            for path in ("/health", "/api/keys", "/v1/files", "/v1/models"):
                assert (await daemon.client.get(path)).status_code == 200
            assert not writing.done()
        async with asyncio.timeout(LIMIT):
            response = await writing
        assert response.status_code == 200
        keys = (await daemon.client.get("/api/keys")).json()["data"]
        assert [key["id"] for key in keys] == [response.json()["id"]]


async def test_a_write_to_a_long_locked_database_is_refused_with_503_until_unlocked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impatient(url: URL, begin: str, **options: Any) -> Any:
        return open_sqlite(url, begin, **{**options, "timeout": 0.5})

    monkeypatch.setattr("portico_server.db.database.open_sqlite", impatient)
    async with api_server(tmp_path) as daemon:
        with held(tmp_path):
            refusal = await daemon.client.post("/api/keys", json=KEY)
            assert refusal.status_code == 503, refusal.text
            error = refusal.json()["error"]
            assert error["code"] == "busy" and "Another program has locked the database" in error["message"]
            assert (await daemon.client.get("/api/keys")).json()["data"] == []
        assert (await daemon.client.post("/api/keys", json=KEY)).status_code == 200
        assert len((await daemon.client.get("/api/keys")).json()["data"]) == 1
