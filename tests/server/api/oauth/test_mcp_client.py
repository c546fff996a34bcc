"""An MCP client reaches the tools from a bare address: the daemon is its own authorization server."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.api_server import ApiServer, api_server
from tests.oauth_client import TokenStorage, mcp_client

from portico_server.api.auth.grants import ACCESS_PREFIX


async def new_key(served: ApiServer, *scopes: str) -> str:
    return (await served.auth.create("ada", scopes))[1]


@pytest.mark.parametrize("path", ["/mcp", "/mcp/stores/docs"])
async def test_the_python_client_reaches_the_tools_from_a_bare_address(tmp_path: Path, path: str) -> None:
    async with api_server(tmp_path, require_key=True) as served:
        key = await new_key(served, "chat", "tools:calculator:call", "stores:*:manage")
        await served.services.stores.create("docs", served.auth.identify(key))
        storage = TokenStorage()
        async with mcp_client(f"{served.url}{path}", key, storage) as client:
            assert (await client.list_tools()).tools
        assert storage.tokens is not None and storage.tokens.access_token.startswith(ACCESS_PREFIX)
        assert storage.tokens.scope == "chat stores:*:read tools:calculator:call"
        listed = (await served.client.get("/api/keys", headers=bearer(await new_key(served, "admin")))).json()
    grant = next(item for item in listed["data"] if item["parent"])
    assert grant["name"] == "Tester" and grant["parent"] == served.auth.identify(key).id


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}
