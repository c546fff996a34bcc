"""Checks on every request before a protocol adapter sees it: Host, Origin, size, JSON, unknown paths, errors in
one form.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from tests.api_server import ApiServer, RelayModel, api_server
from tests.registry_fixture import ScriptedServable

from portico_server.core.errors import TooMany
from portico_server.core.request import ChatReply
from portico_server.core.servable import Card

ASK = {"model": "teller", "messages": [{"role": "user", "content": "Hello"}]}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    async with api_server(
        tmp_path_factory.mktemp("home"), allowed_origins="https://app.example", max_body_mb=1
    ) as server:
        server.add(RelayModel("teller", b'{"object":"chat.completion"}'))
        yield server


def refused(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that a response is an error in OpenAI's format, and return its contents."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"].startswith("req_")
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert error["message"].endswith((".", "?"))
    return error


async def test_health_answers_without_a_key_and_to_head(daemon: ApiServer) -> None:
    response = await daemon.client.get("/health")
    assert response.json()["status"] == "ok"
    assert (await daemon.client.head("/health")).status_code == 200
    refused(await daemon.client.post("/health"), 405, "method_not_allowed")


async def test_every_response_has_a_unique_request_id(daemon: ApiServer) -> None:
    answers = [await daemon.client.get(path) for path in ("/health", "/v1/models", "/nowhere")]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 3


@pytest.mark.parametrize(
    ("method", "path", "hint"),
    [
        ("GET", "/v1/chat/completion", "/v1/chat/completions"),
        ("POST", "/api/deployment", "/api/deployments"),
        ("GET", "/wp-login.php", "/docs"),
        ("GET", "/v1/evalz", "/v1/evals"),
    ],
)
async def test_an_unknown_path_is_a_404_that_names_the_nearest(
    daemon: ApiServer, method: str, path: str, hint: str
) -> None:
    error = refused(await daemon.client.request(method, path), 404, "unknown_url")
    assert hint in error["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/chat/completions"),
        ("GET", "/chat/completions"),
        ("POST", "/completions"),
        ("POST", "/embeddings"),
        ("GET", "/models"),
        ("GET", "/models/teller"),
        ("GET", "/models/org/model"),
        ("HEAD", "/models"),
        ("POST", "/rerank"),
        ("POST", "/responses"),
        ("GET", "/responses/resp_1"),
        ("DELETE", "/models/teller"),
    ],
)
async def test_a_path_without_its_version_answers_as_the_path_with_it(
    daemon: ApiServer, method: str, path: str
) -> None:
    body = {**ASK, "prompt": "x", "temperature": "hot"} if method == "POST" else None
    answers = [await daemon.client.request(method, prefix + path, json=body) for prefix in ("", "/v1")]
    assert answers[0].status_code == answers[1].status_code
    assert answers[0].content == answers[1].content
    assert "unknown_url" not in answers[0].text


async def test_only_known_paths_may_lack_their_version(daemon: ApiServer) -> None:
    for path in ("/files", "/modelsx", "/chat", "/v1/v1/models"):
        refused(await daemon.client.get(path), 404, "unknown_url")


async def test_the_prefix_of_a_feature_is_not_suggested_for_itself(daemon: ApiServer) -> None:
    error = refused(await daemon.client.get("/api/webhooks"), 404, "unknown_url")
    hint = error["message"].partition("/api/webhooks.")[2]
    assert "/api/webhooks?" not in hint and "/api/webhooks or" not in hint


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/chat/completions", "POST, GET"),
        ("GET", "/v1/completions", "POST"),
        ("PATCH", "/api/keys", "GET, POST"),
        ("DELETE", "/api/status", "GET"),
    ],
)
async def test_a_wrong_method_is_a_405_with_allow(
    daemon: ApiServer, method: str, path: str, allow: str
) -> None:
    response = await daemon.client.request(method, path)
    refused(response, 405, "method_not_allowed")
    assert response.headers["allow"] == allow


@pytest.mark.parametrize(("path", "allow"), [("/v1/embeddings", "POST"), ("/api/keys", "GET, POST")])
async def test_options_lists_the_methods(daemon: ApiServer, path: str, allow: str) -> None:
    response = await daemon.client.options(path)
    assert (response.status_code, response.headers["allow"]) == (204, allow)


async def test_head_is_a_get_without_a_body(daemon: ApiServer) -> None:
    response = await daemon.client.head("/v1/models")
    assert (response.status_code, response.content) == (200, b"")


BROKEN = {
    "cut short": b'{"model": ',
    "not UTF-8": b'{"model": "\xff"}',
    "a hundred thousand brackets": b"[" * 100_000,
    "ten thousand lists": b'{"messages":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "NaN": b'{"model": NaN}',
    "a number of five thousand digits": b'{"seed": ' + b"9" * 5_000 + b"}",
    "half a surrogate pair": b'{"model": "\\ud800"}',
}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/api/keys", "/api/tools/x/call"])
@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
async def test_broken_json_is_a_400(daemon: ApiServer, path: str, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    refused(await daemon.client.post(path, content=body, headers=headers), 400, "invalid_json")


@pytest.mark.parametrize("body", [b"", b"[]", b'"text"', b"null"])
async def test_a_json_body_that_is_not_an_object_is_a_400(daemon: ApiServer, body: bytes) -> None:
    refused(await daemon.client.post("/v1/chat/completions", content=body), 400, "invalid_json")
    assert (await daemon.client.post("/api/keys", content=body)).status_code == 400


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/keys"])
async def test_another_content_type_is_a_400_that_names_it(daemon: ApiServer, path: str) -> None:
    error = refused(
        await daemon.client.post(path, content=b"a=1", headers={"content-type": "text/plain"}),
        400,
        "unsupported_content_type",
    )
    assert "text/plain" in error["message"]


async def test_json_with_a_charset_or_without_a_content_type_is_accepted(daemon: ApiServer) -> None:
    for headers in ({"content-type": "application/json; charset=utf-8"}, {}):
        body = b'{"model":"teller","messages":[{"role":"user","content":"x"}]}'
        response = await daemon.client.post("/v1/chat/completions", content=body, headers=headers)
        assert response.status_code == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/keys", "/v1/nowhere"])
async def test_a_body_over_the_limit_is_a_413(daemon: ApiServer, path: str) -> None:
    error = refused(await daemon.client.post(path, content=b" " * 1_100_000), 413, "request_too_large")
    assert "1 MB" in error["message"]


async def test_a_body_without_content_length_over_the_limit_is_a_413(daemon: ApiServer) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 50_000

    response = await daemon.client.post("/v1/chat/completions", content=pieces())
    refused(response, 413, "request_too_large")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/api/keys", {"name": "x"}, "scopes"),
        ("/api/keys", {"name": "x", "scopes": ["chat", 1]}, "scopes[1]"),
        ("/api/deployments", {"name": "x"}, "source"),
        ("/api/flows/run", {"input": 1}, "flow"),
    ],
)
async def test_validation_is_a_400_that_names_the_path(
    daemon: ApiServer, path: str, body: dict[str, Any], param: str
) -> None:
    response = await daemon.client.post(path, json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8642", "192.168.1.5", "localhost.evil.example"]
)
async def test_a_foreign_host_is_refused(daemon: ApiServer, host: str) -> None:
    refused(await daemon.client.get("/health", headers={"host": host}), 403, "host_not_allowed")


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1:8642", "[::1]:8642", "LOCALHOST"])
async def test_loopback_by_any_name_is_let_in(daemon: ApiServer, host: str) -> None:
    assert (await daemon.client.get("/health", headers={"host": host})).status_code == 200


async def test_further_hosts_can_be_allowed(tmp_path: Path) -> None:
    async with api_server(tmp_path, allowed_hosts="portico.lan, other") as server:
        assert (await server.client.get("/health", headers={"host": "portico.lan:80"})).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:3000", ""])
@pytest.mark.parametrize("path", ["/health", "/v1/chat/completions", "/api/shutdown"])
async def test_a_request_from_a_foreign_origin_is_refused(daemon: ApiServer, origin: str, path: str) -> None:
    response = await daemon.client.post(path, json=ASK, headers={"origin": origin})
    if path == "/health" or origin in ("", "http://localhost:3000"):
        refused(response, 403, "origin_not_allowed")
    else:  # nothing but a key helps a page that is not on this machine
        refused(response, 401, "missing_api_key")
    assert not daemon.stopped.is_set()


async def test_our_own_page_may_call_and_needs_no_cors(daemon: ApiServer) -> None:
    response = await daemon.client.get("/v1/models", headers={"origin": daemon.url})
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.slow
async def test_the_api_document_describes_host_and_origin_refusals(daemon: ApiServer) -> None:
    document = (await daemon.client.get("/openapi.json")).json()
    assert "`host_not_allowed`" in document["info"]["description"]
    assert "`origin_not_allowed`" in document["info"]["description"]


async def test_a_page_over_http_is_foreign_to_a_daemon_over_https(tmp_path: Path) -> None:
    async with api_server(
        tmp_path, api_key="k", public_url="https://portico.lan", allowed_hosts="portico.lan, other.lan"
    ) as server:
        for host, scheme, is_own in [
            ("portico.lan", "https", True),
            ("portico.lan", "http", False),
            ("other.lan", "http", True),
            ("other.lan", "https", True),  # a proxy answers over https
            ("other.lan", "ftp", False),
            ("portico.lan", "chrome-extension", False),
        ]:
            headers = {"host": host, "origin": f"{scheme}://{host}"}
            response = await server.client.get("/health", headers=headers)
            assert response.status_code == (200 if is_own else 403), headers


async def test_an_allowed_origin_gets_cors_on_answers_errors_and_preflight(daemon: ApiServer) -> None:
    headers = {"origin": "https://app.example"}
    for path in ("/v1/models", "/nowhere"):
        response = await daemon.client.get(path, headers=headers)
        assert response.headers["access-control-allow-origin"] == "https://app.example"
    preflight = await daemon.client.options(
        "/v1/chat/completions", headers={**headers, "access-control-request-method": "POST"}
    )
    assert preflight.status_code == 204
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()


async def test_an_internal_error_is_logged_and_answered_without_details(
    daemon: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_request: Any, _context: Any) -> ChatReply:
        raise RuntimeError("the secret is xyzzy")

    daemon.add(ScriptedServable(Card("broken", "app", capabilities=frozenset({"chat"})), fail))
    response = await daemon.client.post("/v1/chat/completions", json={**ASK, "model": "broken"})
    refused(response, 500, "internal_error")
    assert "xyzzy" not in response.text
    assert "the secret is xyzzy" in caplog.text


async def test_a_defect_in_an_endpoint_is_logged_under_the_request_id(
    daemon: ApiServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("the secret is xyzzy")

    monkeypatch.setattr(daemon.auth.keys, "list", fail)
    response = await daemon.client.get("/api/keys")
    refused(response, 500, "internal_error")
    assert "xyzzy" not in response.text
    logged = [record for record in caplog.records if response.headers["x-request-id"] in record.getMessage()]
    assert len(logged) == 1
    assert logged[0].exc_info is not None


async def test_retry_after_is_sent(daemon: ApiServer) -> None:
    daemon.add(RelayModel("busy", error=TooMany("The queue is full.", retry_after=1.2)))
    response = await daemon.client.post("/v1/chat/completions", json={**ASK, "model": "busy"})
    refused(response, 429, "rate_limit_exceeded")
    assert response.headers["retry-after"] == "2"
