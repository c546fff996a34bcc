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
    async with api_server(tmp_path, require_key=True) as served:
        answer = await served.client.get(WELL_KNOWN + path)
        assert answer.status_code == 200
        found: dict[str, Any] = answer.json()
        assert found["resource"] == f"{served.url}{path}"
    assert found["bearer_methods_supported"] == ["header"] and "chat" in found["scopes_supported"]
    assert found["authorization_servers"] == [served.url]


async def test_metadata_of_a_daemon_without_keys_lists_no_authorization_servers(tmp_path: Path) -> None:
    async with api_server(tmp_path) as served:
        assert "authorization_servers" not in (await served.client.get(WELL_KNOWN)).json()


async def test_metadata_contains_the_configured_public_url_and_authorization_servers(tmp_path: Path) -> None:
    servers = "https://login.example.com, https://other.example.com/tenant"
    public = "https://portico.example.com/"
    async with api_server(
        tmp_path, require_key=True, public_url=public, authorization_servers=servers
    ) as served:
        found = (await served.client.get(f"{WELL_KNOWN}/mcp")).json()
        refused = await served.client.post("/mcp", json={})
    assert found["resource"] == "https://portico.example.com/mcp"
    assert found["authorization_servers"] == ["https://login.example.com", "https://other.example.com/tenant"]
    assert (
        f'resource_metadata="https://portico.example.com{WELL_KNOWN}/mcp"'
        in refused.headers["www-authenticate"]
    )


async def test_only_mcp_401_responses_point_to_the_resource_metadata(tmp_path: Path) -> None:
    async with api_server(tmp_path, require_key=True) as served:
        base = str(served.client.base_url).rstrip("/")
        for path in ("/mcp", "/mcp/stores/docs"):
            refused = await served.client.post(path, json={})
            assert refused.status_code == 401
            assert f'resource_metadata="{base}{WELL_KNOWN}{path}"' in refused.headers["www-authenticate"]
        elsewhere = await served.client.get("/v1/models")
        assert "resource_metadata" not in elsewhere.headers["www-authenticate"]


@pytest.mark.parametrize("path", ["/v1", "/mcpx", "/mcp/../api/keys"])
async def test_paths_outside_mcp_have_no_resource_metadata(tmp_path: Path, path: str) -> None:
    async with api_server(tmp_path, require_key=True) as served:
        assert (await served.client.get(WELL_KNOWN + path)).status_code in (401, 404)
