"""Small safeguards: headers of every answer, duplicates that requests must not have, and limits on what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from tests.api_server import ApiServer, RelayModel, api_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASK: dict[str, Any] = {"model": "teller", "messages": [{"role": "user", "content": "Hello"}]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path_factory.mktemp("home")) as server:
        server.add(RelayModel("teller", b'{"object":"chat.completion"}'))
        yield server


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        *(
            ("GET", path, None)
            for path in ("/health", "/", "/docs", "/openapi.json", "/favicon.ico", "/nowhere")
        ),
        *(
            ("GET", path, None)
            for path in ("/v1/models", "/v1/files", "/api/status", "/api/tools", "/metrics", "/mcp")
        ),
        ("POST", "/v1/chat/completions", ASK),
        ("POST", "/v1/chat/completions", {**ASK, "stream": True}),
        ("POST", "/v1/chat/completions", {}),
        ("POST", "/v1/messages", {}),
        ("POST", "/api/flows/check", {"flow": {}}),
        ("DELETE", "/v1/files/none", None),
        ("OPTIONS", "/v1/chat/completions", None),
    ],
)
async def test_every_response_has_the_nosniff_header(
    daemon: ApiServer, method: str, path: str, body: dict[str, Any] | None
) -> None:
    answer = await daemon.client.request(method, path, json=body)
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"], answer.headers


@pytest.mark.parametrize(
    "hosts",
    [
        ("localhost", "localhost"),
        ("localhost", "evil.example"),
        ("evil.example", "localhost"),
        ("", "localhost"),
    ],
)
async def test_a_request_with_two_host_headers_is_refused(daemon: ApiServer, hosts: tuple[str, ...]) -> None:
    address = httpx.URL(daemon.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    writer.write(f"GET /health HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"invalid_host"' in answer


@pytest.mark.parametrize(
    "metadata",
    [
        {f"k{number}": "v" for number in range(17)},
        {"k" * 65: "v"},
        {"k" * 1_000_000: "v"},
        {"k": "v" * 513},
        {"k": {"deep": "v"}},
        {"k": ["v"]},
    ],
)
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/vector_stores", "/v1/conversations", "/v1/responses"]
)
async def test_invalid_metadata_is_refused_and_not_echoed_in_the_error(
    daemon: ApiServer, path: str, metadata: dict[str, Any]
) -> None:
    body = {**(ASK if "chat" in path else {}), "metadata": metadata}
    if path == "/v1/responses":
        body |= {"model": "teller", "input": "Hello"}
    answer = await daemon.client.post(path, json=body)
    assert answer.status_code == 400, answer.text
    assert "metadata" in answer.json()["error"]["param"]
    assert len(answer.content) < 2_000


@pytest.mark.parametrize(
    "given",
    [{"metadata": {"k": "v" * 20_000}}, {"metadata": {"k" * 65: 1}}, {"title": "t" * 501}],
    ids=["large", "name", "title"],
)
async def test_oversized_session_titles_and_metadata_are_refused(
    daemon: ApiServer, given: dict[str, Any]
) -> None:
    response = await daemon.client.post("/api/sessions", json={"app": "agent"})
    assert response.status_code == 200, response.text
    for answer in (
        await daemon.client.post("/api/sessions", json={"app": "agent", **given}),
        await daemon.client.patch(f"/api/sessions/{response.json()['id']}", json=given),
    ):
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] in ("metadata", "title")


@pytest.mark.parametrize(
    "strategy",
    [
        {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 401}},
        {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 10**30}},
        {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": -1}},
        {"type": "markdown", "size": 100, "overlap": 51},
        {"type": "markdown", "size": 10**30, "overlap": 0},
    ],
)
async def test_a_chunk_overlap_out_of_range_is_refused(daemon: ApiServer, strategy: dict[str, Any]) -> None:
    form = {"file": ("bread.md", b"# Bread", "text/markdown")}
    file = (await daemon.client.post("/v1/files", files=form, data={"purpose": "assistants"})).json()["id"]
    store = (await daemon.client.post("/v1/vector_stores", json={})).json()["id"]
    body = {"file_id": file, "chunking_strategy": strategy}
    answer = await daemon.client.post(f"/v1/vector_stores/{store}/files", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].startswith("chunking_strategy")


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "x" * 1_000])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/api/flows/run", "/mcp"])
async def test_a_body_with_a_content_encoding_is_refused(daemon: ApiServer, path: str, encoding: str) -> None:
    headers = {"content-encoding": encoding, "content-type": "application/json"}
    answer = await daemon.client.post(path, content=b"\x1f\x8b\x08", headers=headers)
    assert answer.status_code == 400
    assert "content encoding" in answer.text and len(answer.content) < 1_000


@pytest.mark.parametrize(
    "body",
    [b"[" + b"{}," * 250_000 + b"1]", b'["' + b'a","' * 250_000 + b'a"]', b"[" + b"1," * 1_000_000 + b"1]"],
    ids=["objects", "texts", "numbers"],
)
async def test_a_json_body_with_too_many_values_is_refused(daemon: ApiServer, body: bytes) -> None:
    answer = await daemon.client.post("/v1/chat/completions", content=b'{"a":' + body + b"}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "body_too_complex")


async def test_json_syntax_inside_a_string_does_not_count_as_body_complexity(daemon: ApiServer) -> None:
    text = '{[",\\' * 300_000
    answer = await daemon.client.post(
        "/v1/chat/completions", json={**ASK, "messages": [{"role": "user", "content": text}]}
    )
    assert answer.status_code == 200, answer.text


async def test_a_head_request_to_an_event_stream_ends(daemon: ApiServer) -> None:
    answer = await daemon.client.head("/api/questions/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (await daemon.client.get("/health")).status_code == 200


@pytest.mark.parametrize(
    ("path", "field", "more", "words"),
    [
        ("/v1/chat/completions", "messages", {}, "at most 10000"),
        ("/v1/messages", "messages", {"max_tokens": 1}, "at most 10000"),
        ("/v1/responses", "input", {}, "the maximum is 10000"),
    ],
)
async def test_a_conversation_with_too_many_messages_is_refused(
    daemon: ApiServer, path: str, field: str, more: dict[str, Any], words: str
) -> None:
    turns = [{"role": "user", "content": "a"}] * 10_001
    answer = await daemon.client.post(path, json={"model": "teller", field: turns, **more})
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]
