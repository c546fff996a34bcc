"""An MCP client reaches the tools from a bare address: the daemon is its own authorization server."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import httpx
import pytest
from tests.api_server import ApiServer, api_server
from tests.oauth_client import TokenStorage, mcp_client

from portico_server.api.auth.grants import ACCESS_PREFIX

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "Tester", "version": "1"},
    },
}


async def new_key(served: ApiServer, *scopes: str) -> str:
    return (await served.auth.create("ada", scopes))[1]


@pytest.mark.parametrize("path", ["/mcp", "/mcp/stores/docs"])
async def test_the_python_client_reaches_the_tools_from_a_bare_address(tmp_path: Path, path: str) -> None:
    async with api_server(tmp_path, require_key=True) as server:
        key = await new_key(server, "chat", "tools:calculator:call", "stores:*:manage")
        await server.services.stores.create("docs", server.auth.identify(key))
        storage = TokenStorage()
        async with mcp_client(f"{server.url}{path}", key, storage) as client:
            assert (await client.list_tools()).tools
        assert storage.tokens is not None and storage.tokens.access_token.startswith(ACCESS_PREFIX)
        assert storage.tokens.scope == "chat stores:*:read tools:calculator:call"
        key_list = (
            await server.client.get("/api/keys", headers=bearer(await new_key(server, "admin")))
        ).json()
    grant = next(item for item in key_list["data"] if item["parent"])
    assert grant["name"] == "Tester" and grant["parent"] == server.auth.identify(key).id


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize("way", ["the client", "an admin", "the key of the person"])
async def test_revocation_ends_an_open_stream(tmp_path: Path, way: str) -> None:
    async with api_server(tmp_path, require_key=True) as server:
        row, key = await server.auth.create("ada", ["chat"])
        storage = TokenStorage()
        async with mcp_client(f"{server.url}/mcp", key, storage) as client:
            await client.list_tools()
        assert storage.tokens is not None and storage.client is not None
        headers = {**bearer(storage.tokens.access_token), "accept": "application/json, text/event-stream"}
        response = await server.client.post("/mcp", json=INITIALIZE, headers=headers)
        headers |= {
            "mcp-session-id": response.headers["mcp-session-id"],
            "mcp-protocol-version": "2025-06-18",
        }
        async with asyncio.timeout(30), server.client.stream("GET", "/mcp", headers=headers) as stream:
            assert stream.status_code == 200
            if way == "the client":
                form = {"token": storage.tokens.refresh_token, "client_id": storage.client.client_id}
                assert (await server.client.post("/revoke", data=form)).status_code == 200
            elif way == "an admin":
                admin = bearer(await new_key(server, "admin"))
                [grant] = server.auth.grants.list()
                assert (await server.client.delete(f"/api/keys/{grant.id}", headers=admin)).status_code == 200
            else:
                await server.auth.revoke(row.id)
            with contextlib.suppress(httpx.RemoteProtocolError):
                async for _ in stream.aiter_bytes():
                    pass
        again = await server.client.post("/mcp", json=INITIALIZE, headers=headers)
        assert again.status_code == 401 and 'error="invalid_token"' in again.headers["www-authenticate"]


async def test_revoking_a_grant_leaves_the_person_s_other_calls_alone(tmp_path: Path) -> None:
    async with api_server(tmp_path, require_key=True) as server:
        _, key = await server.auth.create("ada", ["chat"])
        first, second = TokenStorage(), TokenStorage()
        async with (
            mcp_client(f"{server.url}/mcp", key, first),
            mcp_client(f"{server.url}/mcp", key, second) as second_client,
        ):
            [grant, _] = server.auth.grants.list()
            await server.auth.revoke(grant.id)
            await second_client.list_tools()
        assert (await server.client.get("/v1/models", headers=bearer(key))).status_code in (200, 403)


async def test_an_expired_client_refreshes_its_token(tmp_path: Path) -> None:
    async with api_server(tmp_path, require_key=True) as server:
        key = await new_key(server, "chat")
        storage = TokenStorage()
        async with mcp_client(f"{server.url}/mcp", key, storage):
            assert storage.tokens is not None
            first = storage.tokens.access_token
        [grant] = server.auth.grants.list()
        assert storage.client is not None and storage.tokens.refresh_token is not None
        form = {"grant_type": "refresh_token", "refresh_token": storage.tokens.refresh_token}
        answer = await server.client.post("/token", data={**form, "client_id": storage.client.client_id})
        assert answer.status_code == 200 and answer.json()["access_token"] != first
        assert [row.id for row in server.auth.grants.list()] == [grant.id]


async def test_a_daemon_without_keys_is_no_authorization_server(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server:
        for path in ("/.well-known/oauth-authorization-server", "/register", "/token", "/revoke"):
            assert (await server.client.get(path)).status_code == 404
        assert (await server.client.get("/api/authorization")).status_code == 404


@pytest.mark.parametrize("servers", ["https://login.example.com", "https://portico.example.com"])
async def test_another_issuer_in_the_settings_takes_the_daemon_s_place(tmp_path: Path, servers: str) -> None:
    public = "https://portico.example.com"
    async with api_server(
        tmp_path, require_key=True, public_url=public, authorization_servers=servers
    ) as server:
        answer = await server.client.get("/.well-known/oauth-authorization-server")
    assert answer.status_code == (200 if servers == public else 404)
