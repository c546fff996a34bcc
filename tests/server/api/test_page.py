"""The page at / and the API reference: everything comes from this daemon, and every path is documented."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from tests.api_server import api_server

from portico_server.api.hot import HOT

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    async with api_server(tmp_path_factory.mktemp("home")) as served:
        yield served.client


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_a_page_loads_nothing_from_elsewhere(client: httpx.AsyncClient, path: str) -> None:
    page = await client.get(path)
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "'unsafe-inline'" not in re.findall("script-src[^;]*", page.headers["content-security-policy"])[0]
    for url in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert url.startswith("/")
        assert (await client.get(url)).status_code == 200
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=", page.text)


async def test_the_front_page_writes_text_and_never_markup(client: httpx.AsyncClient) -> None:
    script = (await client.get("/docs/page.js")).text
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", script)


async def test_every_path_is_in_the_schema(client: httpx.AsyncClient) -> None:
    schema = (await client.get("/openapi.json")).json()
    assert set(HOT) | {
        "/health",
        "/v1/models",
        "/v1/files",
        "/api/status",
        "/api/runs/{run_id}/events",
    } <= set(schema["paths"])
    ids = [operation["operationId"] for path in schema["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))
    assert "422" not in {
        status
        for path in schema["paths"].values()
        for operation in path.values()
        for status in operation["responses"]
    }


async def test_a_missing_asset_is_a_404(client: httpx.AsyncClient) -> None:
    assert (await client.get("/docs/../../settings.py")).status_code == 404
    assert (await client.get("/docs/swagger-ui.css.map")).status_code == 404
