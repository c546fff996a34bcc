"""Runs that a command follows to their end, with the runs that they start."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.api_server import api_server

from portico import AsyncClient
from portico.cli.follow import follow
from portico.cli.progress import progress_text
from portico.wire import Progressed
from portico_server.core.context import Context
from portico_server.core.errors import Unavailable


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (Progressed("scan", "/srv/docs"), "Reading docs: scan"),
        (Progressed("index", "", 0, 9, "files"), "Reading docs: index, 0 of 9 files"),
        (Progressed("index", "big.txt 40 %", 2, 9, "files"), "Reading docs, 3 of 9: big.txt 40 %"),
        (Progressed("index", "last.txt", 9, 9, "files"), "Reading docs, 9 of 9: last.txt"),
        (
            Progressed("index", "building the index", 4, 8, "chunks"),
            "Reading docs: building the index, 4 of 8 chunks",
        ),
        (Progressed("download", "x", 40_000_000, 93_400_000, "bytes"), "Reading docs: 40.0 of 93.4 MB"),
        (Progressed("download", "x", 900_000, 93_400_000, "bytes"), "Reading docs: 900.0 kB of 93.4 MB"),
        (Progressed("download", "x", 900_000, None, "bytes"), "Reading docs: 900.0 kB"),
    ],
)
def test_progress_is_one_line(status: Progressed, text: str) -> None:
    assert progress_text("Reading docs", status) == text


async def test_a_repeated_failure_of_a_followed_run_is_reported_once(tmp_path: Path) -> None:
    done: list[str] = []
    may = asyncio.Event()
    async with api_server(tmp_path) as daemon, AsyncClient(daemon.url) as client, asyncio.timeout(60):
        scheduler = daemon.services.scheduler

        async def fail(_payload: Mapping[str, Any], context: Context) -> None:
            done.append(context.run)
            if len(done) == 1:
                await scheduler.ensure("sync", "store", {})  # as a folder watcher does
            else:
                await may.wait()
            raise Unavailable("The folder is gone.")

        scheduler.handle("sync", fail)
        first = await scheduler.ensure("sync", "store", {})
        outcomes = await follow(client, [first], lambda run: run.name == "store")
        assert [(item.run.id, item.error) for item in outcomes] == [(first, "The folder is gone.")]
        may.set()
