"""Keys: who needs a key, what an invalid key gets, and what one key cannot see of another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api_server import ApiServer, RelayModel, api_server

from portico_server.api.auth.credentials import presented
from portico_server.config import KeySpec
from portico_server.core.errors import InvalidRequest, Unauthenticated

ASK = {"model": "teller", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path) as server:
        server.add(RelayModel("teller", b"{}"))
        yield server


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}".strip()}


async def get(daemon: ApiServer, path: str, key: str) -> httpx.Response:
    return await daemon.client.get(path, headers=bearer(key))


async def test_on_loopback_nobody_needs_a_key_even_when_there_are_some(daemon: ApiServer) -> None:
    await daemon.auth.create("friend", ["chat"])
    assert (await daemon.client.get("/api/keys")).status_code == 200


async def test_any_key_is_accepted_until_one_exists_and_the_placeholder_local_always(
    daemon: ApiServer,
) -> None:
    assert (await get(daemon, "/v1/models", "sk-whatever")).status_code == 200
    await daemon.auth.create("friend", ["chat"])
    assert (await get(daemon, "/v1/models", "sk-whatever")).status_code == 401
    assert (await get(daemon, "/v1/models", "local")).status_code == 200


@pytest.mark.parametrize("word", ["none", "sk-no-key", "sk-no-key-required", "EMPTY", "not-needed", ""])
async def test_a_common_dummy_key_is_refused_with_advice_once_a_key_exists(
    daemon: ApiServer, word: str
) -> None:
    async def asked() -> httpx.Response:
        return await daemon.client.post("/v1/chat/completions", json=ASK, headers=bearer(word))

    assert (await asked()).status_code == 200
    await daemon.auth.create("friend", ["chat"])
    answer = await asked()
    if not word:  # no key at all; loopback needs none
        assert answer.status_code == 200
        return
    assert answer.status_code == 401
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
    assert error["message"] == (
        "This daemon requires a valid key, and yours is unknown or was revoked: send a key that the operator created "
        "with 'portico keys create --name NAME --scope chat'. On this machine, 'local' or no key at all is also "
        "accepted."
    )


async def test_an_empty_key_is_refused_with_advice_when_keys_are_required(tmp_path: Path) -> None:
    async with api_server(tmp_path, require_key=True) as daemon:
        missing = (await get(daemon, "/v1/models", "")).json()["error"]
        assert missing["code"] == "missing_api_key" and "portico keys create" in missing["message"]
        unknown = (await get(daemon, "/v1/models", "none")).json()["error"]
        assert unknown["message"].endswith("'portico keys create --name NAME --scope chat'.")


async def test_an_unknown_key_in_portico_format_is_refused_with_401(daemon: ApiServer) -> None:
    response = await get(daemon, "/v1/models", "pk-" + "x" * 43)
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"
    assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/api/status", "/mcp", "/nowhere"])
async def test_every_protocol_answers_401_without_a_valid_key_when_one_is_required(
    tmp_path: Path, path: str
) -> None:
    async with api_server(tmp_path, api_key="the-operators-own") as server:
        for headers in ({}, bearer("wrong"), bearer("local")):
            response = await server.client.post(path, json=ASK, headers=headers)
            assert response.status_code == 401
            error = response.json()["error"]
            assert (error["data"] if path == "/mcp" else error)["type"] == "authentication_error"
        assert (await get(server, "/api/keys", "the-operators-own")).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/", "/docs", "/openapi.json", "/docs/swagger-ui.css"])
async def test_public_paths_need_no_key(tmp_path: Path, path: str) -> None:
    async with api_server(tmp_path, require_key=True) as server:
        assert (await server.client.get(path)).status_code == 200
        assert (await server.client.get("/api/status")).status_code == 401


async def test_a_key_is_shown_once_and_kept_hashed(daemon: ApiServer) -> None:
    created_key = (await daemon.client.post("/api/keys", json={"name": "app", "scopes": ["chat"]})).json()
    assert created_key["key"].startswith("pk-")
    assert created_key["hint"] == created_key["key"][-4:]
    rows = (await daemon.client.get("/api/keys")).json()["data"]
    assert [row["id"] for row in rows] == [created_key["id"]]
    assert "key" not in rows[0]
    for file in daemon.services.settings.home.rglob("portico.db*"):
        assert created_key["key"].encode() not in file.read_bytes()


async def test_an_x_api_key_header_is_accepted_but_two_different_keys_are_refused(daemon: ApiServer) -> None:
    row, key = await daemon.auth.create("app", ["chat"])
    assert (await daemon.client.get("/v1/models", headers={"x-api-key": key})).status_code == 200
    assert daemon.auth.identify(key).id == row.id
    assert presented([(b"authorization", b"bearer a"), (b"x-api-key", b"a")]) == "a"
    with pytest.raises(Unauthenticated, match="The request has two different"):
        presented([(b"authorization", b"Bearer a"), (b"x-api-key", b"b")])


@pytest.mark.parametrize("value", [b"Basic dXNlcjpwYXNz", b"pk-without-a-scheme"])
async def test_an_authorization_scheme_other_than_bearer_is_refused(value: bytes) -> None:
    with pytest.raises(Unauthenticated, match="Bearer"):
        presented([(b"authorization", value)])


async def test_revoking_holds_from_the_next_request_on_and_after_a_restart(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server:
        row, key = await server.auth.create("app", ["chat"])
        _kept, other_key = await server.auth.create("other", ["chat"])
        assert (await get(server, "/v1/models", key)).status_code == 200
        assert (await server.client.delete(f"/api/keys/{row.id}")).json() == {"id": row.id, "deleted": True}
        assert (await get(server, "/v1/models", key)).status_code == 401
        assert (await server.client.delete(f"/api/keys/{row.id}")).status_code == 404
    async with api_server(tmp_path) as server:
        assert (await get(server, "/v1/models", key)).status_code == 401
        assert (await get(server, "/v1/models", other_key)).status_code == 200


async def test_concurrent_changes_of_a_key_are_both_applied(daemon: ApiServer) -> None:
    row, key = await daemon.auth.create("app", ["chat", "models:read"])
    await asyncio.gather(
        daemon.auth.change(row.id, scopes=["chat"]), daemon.auth.change(row.id, groups=["staff"])
    )
    caller = daemon.auth.identify(key)
    assert (caller.scopes, caller.groups) == ({"chat"}, {"staff"})


async def test_a_scope_that_is_missing_is_a_403_and_one_that_does_not_exist_a_400(daemon: ApiServer) -> None:
    _row, key = await daemon.auth.create("app", ["stores:docs:read"])
    response = await daemon.client.post("/v1/chat/completions", json=ASK, headers=bearer(key))
    assert response.status_code == 403
    assert "'chat'" in response.json()["error"]["message"]
    for path in ("/api/keys", "/api/settings", "/api/deployments"):
        assert (await get(daemon, path, key)).status_code == 403
    response = await daemon.client.post("/api/keys", json={"name": "x", "scopes": ["everything"]})
    assert response.json()["error"]["code"] == "invalid_scope"
    assert (await daemon.client.post("/api/keys", json={"name": "x", "scopes": []})).status_code == 400
    assert (await daemon.client.post("/api/keys", json={"name": " ", "scopes": ["chat"]})).status_code == 400


async def test_a_model_owned_by_one_key_is_hidden_from_other_keys(daemon: ApiServer) -> None:
    owner, key = await daemon.auth.create("mine", ["chat"])
    _row, other_key = await daemon.auth.create("other", ["chat"])
    daemon.add(RelayModel("private", b"{}", owner=owner.id))
    ask = {**ASK, "model": "private"}
    for secret, status in ((key, 200), (other_key, 404)):
        response = await daemon.client.post("/v1/chat/completions", json=ask, headers=bearer(secret))
        assert response.status_code == status
        assert (await get(daemon, "/v1/models/private", secret)).status_code == status
        names = [model["id"] for model in (await get(daemon, "/v1/models", secret)).json()["data"]]
        assert ("private" in names) is (status == 200)


async def test_a_run_of_one_key_does_not_exist_for_another(daemon: ApiServer) -> None:
    _row, key = await daemon.auth.create("mine", ["chat"])
    _row, other_key = await daemon.auth.create("other", ["chat"])
    await daemon.client.post("/v1/chat/completions", json=ASK, headers=bearer(key))
    [run] = (await get(daemon, "/api/runs", key)).json()["data"]
    assert (await get(daemon, "/api/runs", other_key)).json()["data"] == []
    for path in (f"/api/runs/{run['id']}", f"/api/runs/{run['id']}/events"):
        assert (await get(daemon, path, key)).status_code == 200
        assert (await get(daemon, path, other_key)).status_code == 404


async def test_a_key_of_the_configuration_works_and_cannot_be_revoked(tmp_path: Path) -> None:
    configured_keys = [KeySpec("ci", "chosen-by-the-operator", ("chat",))]
    async with api_server(tmp_path, given=configured_keys, require_key=True) as server:
        assert (await get(server, "/v1/models", "chosen-by-the-operator")).status_code == 200
        assert (await get(server, "/api/keys", "chosen-by-the-operator")).status_code == 403
        with pytest.raises(Exception, match="configuration file"):
            await server.auth.revoke("config:ci")


async def test_an_open_bind_without_a_key_is_refused_at_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="PORTICO_API_KEY") as caught:
        async with api_server(tmp_path, host="0.0.0.0"):
            pass
    assert caught.value.code == "open_bind"


async def test_a_public_address_without_a_key_is_refused_at_start(tmp_path: Path) -> None:
    public: dict[str, Any] = {"public_url": "https://portico.example.com"}
    with pytest.raises(InvalidRequest, match=r"PORTICO_API_KEY.*trust_local_proxy") as caught:
        async with api_server(tmp_path, **public):
            pass
    assert (caught.value.code, caught.value.param) == ("open_proxy", "public_url")
    for setting, value in (("api_key", "k"), ("require_key", True), ("trust_local_proxy", True)):
        async with api_server(tmp_path, **{**public, setting: value}):
            pass


async def test_an_open_bind_with_a_key_asks_everybody_for_it(tmp_path: Path) -> None:
    async with api_server(tmp_path, host="0.0.0.0", api_key="k") as server:
        assert (await server.client.get("/v1/models")).status_code == 401
        assert (await get(server, "/v1/models", "k")).status_code == 200
        lan = {"host": "192.168.1.5:8642", **bearer("k")}
        assert (await server.client.get("/v1/models", headers=lan)).status_code == 200
        foreign = {"host": "evil.example", **bearer("k")}
        assert (await server.client.get("/v1/models", headers=foreign)).status_code == 403
