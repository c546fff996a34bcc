"""A daemon behind a proxy that serves it under another name or below a path, named by ``public_url`` alone or by a
trusted proxy.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.api_server import ApiServer, api_server
from tests.oauth_client import TokenStorage, mcp_client
from tests.raw_http import UPGRADE

from portico_server.api.auth.cookies import is_of_our_page
from portico_server.api.exchange import Exchange
from portico_server.api.path_prefix import prefix_in
from portico_server.core.errors import InvalidRequest
from portico_server.features.responses.api.own_endpoint import with_own_paths
from portico_server.settings import load

KEY = "pk-of-the-operator"
WITH_KEY = {"authorization": f"Bearer {KEY}"}
PUBLIC = "https://ai.example/portico"
RESOURCE = "/.well-known/oauth-protected-resource"
SERVER = "/.well-known/oauth-authorization-server"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path_factory.mktemp("home"), api_key=KEY, public_url=PUBLIC) as server:
        yield server


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/health", 200),
        ("/portico/health", 200),
        ("/portico/", 200),
        ("/", 200),
        ("/portico/v1/models", 200),
        ("/v1/models", 200),
        ("/portico/models", 200),
        ("/portico/api/keys", 200),
        ("/portico/docs", 200),
        ("/porticox/health", 404),
        ("/portico/portico/health", 404),
        ("/v1/portico/models", 404),
    ],
)
async def test_a_proxy_may_pass_the_path_on_or_remove_it(daemon: ApiServer, path: str, status: int) -> None:
    assert (await daemon.client.get(path, headers=WITH_KEY)).status_code == status


@pytest.mark.asyncio(loop_scope="module")
async def test_the_path_without_a_slash_leads_to_the_page(daemon: ApiServer) -> None:
    response = await daemon.client.get("/portico?app=docs")
    assert (response.status_code, response.headers["location"]) == (307, "/portico/?app=docs")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("path", "resource"),
    [
        (f"{RESOURCE}/portico/mcp", f"{PUBLIC}/mcp"),
        (f"{RESOURCE}/portico", PUBLIC),
        (f"{RESOURCE}/mcp/stores/docs", f"{PUBLIC}/mcp/stores/docs"),
        (f"/portico{RESOURCE}/mcp", f"{PUBLIC}/mcp"),
        (f"/portico{RESOURCE}", PUBLIC),
        (f"{RESOURCE}/other/mcp", None),
        (f"{RESOURCE}/porticox/mcp", None),
    ],
)
async def test_the_metadata_of_a_resource_are_at_both_places(
    daemon: ApiServer, path: str, resource: str | None
) -> None:
    response = await daemon.client.get(path)
    assert (response.status_code, response.json().get("resource")) == (
        404 if resource is None else 200,
        resource,
    )


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("path", "status"),
    [(f"{SERVER}/portico", 200), (SERVER, 200), (f"/portico{SERVER}", 200), (f"{SERVER}/other", 401)],
)
async def test_the_metadata_of_the_issuer_are_at_both_places(
    daemon: ApiServer, path: str, status: int
) -> None:
    response = await daemon.client.get(path)
    assert response.status_code == status
    if status == 200:
        document = response.json()
        assert (document["issuer"], document["token_endpoint"]) == (PUBLIC, f"{PUBLIC}/token")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("ai.example", "https://ai.example", 200),
        ("ai.example:443", "https://ai.example", 200),
        ("127.0.0.1:8642", "https://ai.example", 200),
        ("ai.example", "http://ai.example", 403),
        ("ai.example", "https://ai.example.evil", 403),
        ("ai.example", "https://evil.example", 403),
        ("evil.example", "https://ai.example", 403),
    ],
)
async def test_a_public_url_allows_its_host_and_origin(
    daemon: ApiServer, host: str, origin: str, status: int
) -> None:
    response = await daemon.client.get("/v1/models", headers={**WITH_KEY, "host": host, "origin": origin})
    assert response.status_code == status
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", ["/web/no-such-file.js", "/portico/web/no-such-file.js"])
async def test_files_of_the_page_are_served_whatever_the_origin(daemon: ApiServer, path: str) -> None:
    response = await daemon.client.get(path, headers={"origin": "https://another.example:8443"})
    assert response.status_code == 404 and "access-control-allow-origin" not in response.headers


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("prefix", ["", "/portico"])
async def test_a_web_socket_opens_below_the_path(daemon: ApiServer, prefix: str) -> None:
    response = await daemon.client.get(f"{prefix}/v1/responses", headers={**WITH_KEY, **UPGRADE})
    assert response.status_code == 101


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("headers", [{}, WITH_KEY, {"upgrade": "websocket"}, {"connection": "upgrade"}])
@pytest.mark.parametrize("path", ["/v1/realtime", "/v1/responses", "/portico/v1/realtime"])
async def test_a_web_socket_without_its_upgrade_says_so(
    daemon: ApiServer, path: str, headers: dict[str, str]
) -> None:
    response = await daemon.client.get(path, headers=headers)
    needs_key = path == "/v1/responses" and headers != WITH_KEY
    assert response.status_code == (401 if needs_key else 426)
    if not needs_key:
        assert response.headers["upgrade"] == "websocket"
        assert "pass the headers Upgrade and Connection on" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("public_url", "origin", "is_ours"),
    [
        (PUBLIC, "https://ai.example", True),
        ("https://ai.example:443/portico", "https://ai.example", True),
        ("https://ai.example:8443", "https://ai.example", False),
        (PUBLIC, "http://ai.example", False),
        (PUBLIC, "null", False),
        ("http://127.0.0.1:1", "http://127.0.0.1:1", True),
    ],
)
def test_a_page_of_the_public_url_is_our_own(public_url: str, origin: str, is_ours: bool) -> None:
    headers = {b"origin": origin.encode(), b"host": b"127.0.0.1:1"}
    assert is_of_our_page(headers, "POST", public_url) is is_ours


@pytest.mark.parametrize(
    "public_url",
    [
        *("ai.example", "ftp://ai.example", "https://", "https://ai.example?x", "https://user@ai.example"),
        *(
            "https://ai.example/v1",
            "https://ai.example/api/x",
            "https://ai.example/a%20b",
            "https://a.example/a//b",
        ),
        *("https://ai.example/../x", "https://ai.example/models", "https://[x"),
    ],
)
def test_an_impossible_public_url_is_refused(public_url: str) -> None:
    settings = load(flags={"public_url": public_url}, environment={}).settings
    with pytest.raises(InvalidRequest) as caught:
        prefix_in(settings)
    assert caught.value.param == "public_url"


@pytest.mark.parametrize(
    ("trusted", "prefix", "path", "status", "resource"),
    [
        ("127.0.0.1", "/portico", RESOURCE, 200, "http://localhost/portico"),
        ("127.0.0.1", "/portico/", f"/portico{RESOURCE}/mcp", 200, "http://localhost/portico/mcp"),
        ("127.0.0.1", "/a/b", f"{RESOURCE}/a/b/mcp", 200, "http://localhost/a/b/mcp"),
        ("127.0.0.1", "//evil.example", RESOURCE, 200, "http://localhost"),
        ("127.0.0.1", "/v1", RESOURCE, 200, "http://localhost"),
        ("127.0.0.1", "/v1", "/v1/models", 401, None),
        ("", "/portico", RESOURCE, 200, "http://localhost"),
        ("", "/portico", f"/portico{RESOURCE}", 401, None),
        ("", "/portico", f"{RESOURCE}/portico/mcp", 404, None),
    ],
)
async def test_only_a_trusted_proxy_names_the_path(
    tmp_path: Path, trusted: str, prefix: str, path: str, status: int, resource: str | None
) -> None:
    async with api_server(tmp_path, api_key=KEY, trusted_proxies=trusted) as server:
        headers = {"host": "localhost", "x-forwarded-prefix": prefix}
        response = await server.client.get(path, headers=headers)
        assert (response.status_code, response.json().get("resource")) == (status, resource)


@pytest.mark.parametrize("prefix", ["/portico", "/tools/ai"])
async def test_an_mcp_client_signs_in_below_a_path(tmp_path: Path, prefix: str) -> None:
    def behind_a_proxy(gateway: Any) -> Any:
        async def forward(scope: Any, receive: Any, send: Any) -> None:
            await gateway({**scope, "portico.prefix": prefix}, receive, send)

        return forward

    async with api_server(tmp_path, require_key=True, wrap=behind_a_proxy) as server:
        _, key = await server.auth.create("ada", ("chat", "tools:calculator:call"))
        storage = TokenStorage()
        async with mcp_client(f"{server.url}{prefix}/mcp", key, storage) as client:
            assert (await client.list_tools()).tools
        assert storage.tokens is not None


@pytest.mark.parametrize(
    ("server_url", "own_path"),
    [
        (f"{PUBLIC}/mcp", "/mcp"),
        (f"{PUBLIC}/mcp/stores/docs", "/mcp/stores/docs"),
        ("https://ai.example/other/mcp", None),
        ("https://ai.example/mcp", None),
        ("https://ai.example/porticox/mcp", None),
        ("https://other.example/portico/mcp", None),
    ],
)
def test_an_mcp_tool_below_the_path_is_our_own(server_url: str, own_path: str | None) -> None:
    settings = load(flags={"public_url": PUBLIC}, environment={}).settings
    exchange = Exchange({"headers": []}, no_message, no_answer, 0)
    tools = [{"type": "mcp", "server_url": server_url}]
    [tool] = with_own_paths({"tools": tools}, exchange, settings)["tools"]
    assert tool["server_url"] == (own_path or server_url)


async def no_message() -> Any:
    raise AssertionError("the body is parsed")


async def no_answer(_message: Any) -> None:
    raise AssertionError("nothing is answered")
