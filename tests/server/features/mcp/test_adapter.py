"""The MCP endpoint at byte level: requests of clients in the field, and the answers they must receive."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.mcp_service import Service, serving
from tests.registry_fixture import FixedModel, FixedStore, passage

from portico_server.features.mcp.accept import accepted_types, answer_of

BOTH = "application/json, text/event-stream"
MODERN = "2026-07-28"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path, {}) as running:
        running.daemon.add(
            FixedStore("docs", [passage(1, "The daemon listens on port 7419.")]), FixedModel("7419 [1].")
        )
        yield running


@pytest.fixture
async def http(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=60) as client:
        del client.headers["accept"]
        yield client


def initialize(version: str = "2025-06-18") -> dict[str, Any]:
    client = {"name": "test", "version": "1"}
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": client}
    return {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}


def call(method: str, modern: bool = False, **params: Any) -> dict[str, Any]:
    if modern:
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    return {"jsonrpc": "2.0", "id": 2, "method": method, "params": params}


async def opened(service: Service, http: httpx.AsyncClient, key: str = "") -> dict[str, str]:
    """Return the headers of a session."""
    headers = {"accept": BOTH, **({"authorization": f"Bearer {key}"} if key else {})}
    response = await http.post(service.url, json=initialize(), headers=headers)
    headers["mcp-session-id"] = response.headers["mcp-session-id"]
    initialized = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert (await http.post(service.url, json=initialized, headers=headers)).status_code == 202
    return headers


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json", "application/json"),
        ("text/event-stream", "text/event-stream"),
        ("text/html", "text/event-stream"),
        (None, "text/event-stream"),
        ("*/*", "text/event-stream"),
        (BOTH, "text/event-stream"),
    ],
)
async def test_a_session_opens_with_any_accept_header(
    service: Service, http: httpx.AsyncClient, accept: str | None, kind: str
) -> None:
    headers = {} if accept is None else {"accept": accept}
    response = await http.post(service.url, json=initialize(), headers=headers)
    assert (response.status_code, response.headers["content-type"].split(";")[0]) == (200, kind)
    body = response.content if kind == "application/json" else answer_of(response.content)
    assert json.loads(body)["result"]["serverInfo"]["name"] == "portico"
    assert response.headers["mcp-session-id"]


async def test_json_alone_gets_the_answer_without_the_progress(
    service: Service, http: httpx.AsyncClient
) -> None:
    headers = {**await opened(service, http), "accept": "application/json"}
    arguments = {"question": "Which port?"}
    body = call("tools/call", name="docs", arguments=arguments, _meta={"progressToken": 7})
    response = await http.post(service.url, json=body, headers=headers)
    assert response.json()["result"]["structuredContent"]["answer"] == "7419 [1]."


@pytest.mark.parametrize("name", ["id", "_meta.progressToken"])
async def test_too_long_request_ids_and_progress_tokens_are_refused(
    service: Service, http: httpx.AsyncClient, name: str
) -> None:
    headers = {**await opened(service, http), "accept": "application/json"}
    long = "i" * 300
    body = call("tools/call", name="docs", arguments={"question": "Which port?"})
    if name == "id":
        body["id"] = long
    else:
        body["params"]["_meta"] = {"progressToken": long}
    error = (await http.post(service.url, json=body, headers=headers)).json()["error"]
    assert error["code"] == -32602 and error["message"].startswith(name)


async def test_a_stateless_client_that_accepts_only_events_gets_events(
    service: Service, http: httpx.AsyncClient
) -> None:
    headers = {"accept": "text/event-stream", "mcp-protocol-version": MODERN, "mcp-method": "tools/list"}
    response = await http.post(service.url, json=call("tools/list", modern=True), headers=headers)
    assert response.headers["content-type"] == "text/event-stream"
    assert {tool["name"] for tool in json.loads(answer_of(response.content))["result"]["tools"]} > {"docs"}


async def test_the_stateless_era_needs_no_session(service: Service, http: httpx.AsyncClient) -> None:
    headers = {"accept": BOTH, "mcp-protocol-version": MODERN, "mcp-method": "tools/list"}
    response = await http.post(service.url, json=call("tools/list", modern=True), headers=headers)
    assert response.status_code == 200 and "mcp-session-id" not in response.headers


async def test_an_unknown_version_is_negotiated_in_the_handshake_and_refused_in_the_header(
    service: Service, http: httpx.AsyncClient
) -> None:
    response = await http.post(
        service.url, json=initialize("1999-01-01"), headers={"accept": "application/json"}
    )
    assert response.json()["result"]["protocolVersion"] == "2025-11-25"
    headers = {**await opened(service, http), "mcp-protocol-version": "1999-01-01"}
    response = await http.post(service.url, json=call("tools/list"), headers=headers)
    assert response.status_code == 400 and MODERN in response.text


async def test_a_get_streams_within_a_session_and_is_a_405_outside(
    service: Service, http: httpx.AsyncClient
) -> None:
    outside = await http.get(service.url)
    assert outside.status_code == 405 and "POST" in outside.headers["allow"]
    headers = await opened(service, http)
    for accept in ("text/event-stream", "application/json"):
        async with http.stream("GET", service.url, headers={**headers, "accept": accept}) as response:
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")


async def test_a_session_answers_only_to_the_key_that_opened_it(
    service: Service, http: httpx.AsyncClient
) -> None:
    headers = await opened(service, http, "reader")
    response = await http.post(
        service.url, json=call("tools/list"), headers={**headers, "accept": "application/json"}
    )
    names = [tool["name"] for tool in response.json()["result"]["tools"]]
    assert names == ["docs", "fetch", "search", "search_docs"]
    stolen = {**headers, "authorization": "Bearer other"}
    assert (await http.post(service.url, json=call("tools/list"), headers=stolen)).status_code == 404


async def test_a_session_that_was_ended_is_gone(service: Service, http: httpx.AsyncClient) -> None:
    headers = await opened(service, http)
    assert (await http.delete(service.url, headers=headers)).status_code == 200
    assert (await http.post(service.url, json=call("tools/list"), headers=headers)).status_code == 404


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b"9" * 5_000, b"[]", b"null"])
async def test_a_body_without_a_valid_message_is_a_400(
    service: Service, http: httpx.AsyncClient, body: bytes
) -> None:
    headers = {**await opened(service, http), "content-type": "application/json"}
    response = await http.post(service.url, content=body, headers=headers)
    assert response.status_code == 400 and "error" in response.json()


async def test_a_body_over_the_limit_is_a_413(service: Service, http: httpx.AsyncClient) -> None:
    headers = {"accept": BOTH, "content-type": "application/json"}
    assert (await http.post(service.url, content=b" " * 1_000_001, headers=headers)).status_code == 413


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", (False, False)),
        ("*/*", (True, True)),
        ("application/*;q=0.5", (True, False)),
        ("text/event-stream , Application/JSON", (True, True)),
    ],
)
def test_accept_headers_are_read(accept: str, expected: tuple[bool, bool]) -> None:
    assert accepted_types(accept) == expected


async def test_an_unknown_version_is_refused_with_the_id_and_what_discover_lists(
    service: Service, http: httpx.AsyncClient
) -> None:
    headers = {"accept": BOTH, "mcp-protocol-version": MODERN, "mcp-method": "server/discover"}
    discovery = await http.post(service.url, json=call("server/discover", modern=True), headers=headers)
    headers["mcp-protocol-version"] = "2099-01-01"
    response = await http.post(service.url, json=call("server/discover", modern=True), headers=headers)
    assert response.status_code == 400 and response.json()["id"] == 2
    data = response.json()["error"]["data"]
    assert data["supported"] == discovery.json()["result"]["supportedVersions"]


async def test_white_space_around_header_values_means_nothing(service: Service) -> None:
    body = json.dumps(
        call("tools/call", modern=True, name="search_docs", arguments={"query": "port"})
    ).encode()
    address = httpx.URL(service.url)
    head = [
        f"POST {address.path} HTTP/1.1",
        f"host: {address.host}:{address.port}",
        "connection: close",
        "content-type: application/json",
        f"content-length: {len(body)}",
        f"accept: {BOTH}",
        f"mcp-protocol-version:  {MODERN} \t",
        "mcp-method: tools/call ",
        "mcp-name: \tsearch_docs\t",
    ]
    reader, writer = await asyncio.open_connection(address.host, address.port)  # clients strip white space
    writer.write("\r\n".join([*head, "", ""]).encode() + body)
    response = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    await writer.wait_closed()
    assert b"7419" in response, response[-400:]
