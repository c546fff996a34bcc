"""The metadata of MCP endpoints as protected resources: RFC 9728."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.api_server import api_server

WELL_KNOWN = "/.well-known/oauth-protected-resource"


@pytest.mark.parametrize("path", ["", "/mcp", "/mcp/stores/docs", "/mcp/apps/a%20b"])
async def test_protected_resource_metadata_of_an_endpoint_is_served_without_a_key(
    tmp_path: Path, path: str
) -> None:
    async with api_server(tmp_path, require_key=True) as server:
        answer = await server.client.get(WELL_KNOWN + path)
        assert answer.status_code == 200
        metadata: dict[str, Any] = answer.json()
        assert metadata["resource"] == f"{server.url}{path}"
    assert metadata["bearer_methods_supported"] == ["header"] and "chat" in metadata["scopes_supported"]
    assert metadata["authorization_servers"] == [server.url]


async def test_metadata_of_a_daemon_without_keys_lists_no_authorization_servers(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server:
        assert "authorization_servers" not in (await server.client.get(WELL_KNOWN)).json()


async def test_metadata_contains_the_configured_public_url_and_authorization_servers(tmp_path: Path) -> None:
    servers = "https://login.example.com, https://other.example.com/tenant"
    public = "https://portico.example.com/"
    async with api_server(
        tmp_path, require_key=True, public_url=public, authorization_servers=servers
    ) as server:
        metadata = (await server.client.get(f"{WELL_KNOWN}/mcp")).json()
        response = await server.client.post("/mcp", json={})
    assert metadata["resource"] == "https://portico.example.com/mcp"
    assert metadata["authorization_servers"] == [
        "https://login.example.com",
        "https://other.example.com/tenant",
    ]
    assert (
        f'resource_metadata="https://portico.example.com{WELL_KNOWN}/mcp"'
        in response.headers["www-authenticate"]
    )


async def test_only_mcp_401_responses_point_to_the_resource_metadata(tmp_path: Path) -> None:
    async with api_server(tmp_path, require_key=True) as server:
        base = str(server.client.base_url).rstrip("/")
        for path in ("/mcp", "/mcp/stores/docs"):
            response = await server.client.post(path, json={})
            assert response.status_code == 401
            assert f'resource_metadata="{base}{WELL_KNOWN}{path}"' in response.headers["www-authenticate"]
        elsewhere = await server.client.get("/v1/models")
        assert "resource_metadata" not in elsewhere.headers["www-authenticate"]


@pytest.mark.parametrize("path", ["/v1", "/mcpx", "/mcp/../api/keys"])
async def test_paths_outside_mcp_have_no_resource_metadata(tmp_path: Path, path: str) -> None:
    async with api_server(tmp_path, require_key=True) as server:
        assert (await server.client.get(WELL_KNOWN + path)).status_code in (401, 404)
