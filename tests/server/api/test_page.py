"""The page at / and the API reference: everything comes from this daemon, and every path is documented."""

from __future__ import annotations

import asyncio
import gzip
import re
import shutil
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from tests.api_server import api_server
from tests.daemon import ROOT

from portico_server.api.routes import HOT

WEB = Path("server/portico_server/api/web")
MAX_FIRST_LOAD_BYTES = 400_000

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    async with api_server(tmp_path_factory.mktemp("home")) as server:
        yield server.client


@pytest.mark.parametrize(("path", "allows_inline_styles"), [("/", False), ("/docs", True)])
async def test_a_page_loads_nothing_from_elsewhere(
    client: httpx.AsyncClient, path: str, allows_inline_styles: bool
) -> None:
    page = await client.get(path)
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in re.findall("script-src[^;]*", policy)[0]
    assert ("'unsafe-inline'" in re.findall("style-src[^;]*", policy)[0]) == allows_inline_styles
    for url in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert not re.match(r"/|\w+:", url), "a proxy may serve the page under a path"
        assert (await client.get(f"/{url}")).status_code == 200
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=", page.text)


async def test_the_first_page_load_is_at_most_400_kilobytes_compressed(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    responses = [page, *[await client.get(f"/{url}") for url in addresses]]
    assert len(addresses) > 3
    assert sum(len(gzip.compress(response.content)) for response in responses) <= MAX_FIRST_LOAD_BYTES


async def test_scripts_are_cached_as_immutable_and_the_page_is_revalidated(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert page.headers["cache-control"] == "no-cache"
    for url in re.findall(r'"(web/[^"]+)"', page.text):
        asset = await client.get(f"/{url}")
        assert "immutable" in asset.headers["cache-control"]
        assert asset.headers["content-type"].startswith("text/")


async def test_raw_html_is_written_only_by_the_sanitising_modules() -> None:
    writes = r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|dangerouslySet"
    sources = (ROOT / "page" / "src").rglob("*.ts*")
    file_names = {path.name for path in sources if re.search(writes, path.read_text(encoding="utf-8"))}
    assert file_names == {"Markdown.tsx", "colours.ts"}


@pytest.mark.parametrize("changed", [False, True])
async def test_a_build_that_is_older_than_its_sources_is_noticed(tmp_path: Path, changed: bool) -> None:
    shutil.copytree(ROOT / "page", tmp_path / "page", ignore=shutil.ignore_patterns("node_modules"))
    shutil.copytree(ROOT / WEB, tmp_path / WEB)
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "page", tmp_path / "scripts")
    if changed:
        with (tmp_path / "page" / "src" / "main.tsx").open("a", encoding="utf-8") as source:
            source.write("// Changed.\n")
    done = await asyncio.create_subprocess_exec(tmp_path / "scripts" / "page", "fresh", stderr=PIPE)
    _, stderr = await done.communicate()
    assert done.returncode == (1 if changed else 0), stderr.decode()
    assert ("older than its sources" in stderr.decode()) is changed


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
    for path in ("/docs/swagger-ui.css.map", "/web/index.html", "/web/sources.sha256", "/web/../page.py"):
        assert (await client.get(path)).status_code == 404
