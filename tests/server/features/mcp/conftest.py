"""A registry behind the MCP endpoint, and clients of both protocol eras."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from tests.mcp_service import Service, serving
from tests.registry_fixture import FixedModel, FixedStore, passage

FILES = {"docs": {"guide.md": b"# Ports\n\nPort 7419."}, "secret": {"x.txt": b"x"}}

Era = Literal["legacy", "2026-07-28"]
Connect = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path, FILES) as running:
        running.daemon.add(
            FixedStore("docs", [passage(1, "The daemon listens on port 7419.")]),
            FixedStore("secret", app=False),
            FixedModel("Port ", "7419 [1]."),
        )
        yield running


@pytest.fixture(params=["legacy", "2026-07-28"])
def era(request: pytest.FixtureRequest) -> Era:
    era: Era = request.param
    return era


@pytest.fixture
def connect(service: Service, era: Era) -> Connect:
    """Open a client of the era: ``key`` identifies the caller, ``below`` the endpoint; other arguments go to the
    client.
    """

    @asynccontextmanager
    async def opened(key: str = "", below: str = "", **options: Any) -> AsyncIterator[Client]:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            transport = streamable_http_client(service.url + below, http_client=http)
            mode = "legacy" if era == "legacy" else "auto"
            async with Client(transport, mode=mode, **options) as client:
                yield client

    return opened
