"""Runs that a command follows to their end, with those that come with them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.api_server import api_server

from portico import AsyncClient
from portico.cli.follow import follow
from portico_server.core.context import Context
from portico_server.core.errors import Unavailable


async def test_a_run_that_fails_again_while_it_is_followed_is_told_of_once(tmp_path: Path) -> None:
    done: list[str] = []
    may = asyncio.Event()
    async with api_server(tmp_path) as daemon, AsyncClient(daemon.url) as client, asyncio.timeout(60):
        scheduler = daemon.services.scheduler

        async def fail(_payload: Mapping[str, Any], context: Context) -> None:
            done.append(context.run)
            if len(done) == 1:
                await scheduler.ensure("sync", "store", {})  # as a watcher of the folder does
            else:
                await may.wait()
            raise Unavailable("The folder is gone.")

        scheduler.handle("sync", fail)
        first = await scheduler.ensure("sync", "store", {})
        ended = await follow(client, [first], lambda run: run.name == "store")
        assert [(item.run.id, item.error) for item in ended] == [(first, "The folder is gone.")]
        may.set()
