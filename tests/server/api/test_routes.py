"""The route table: its lookup, the checks on every route, and its copy in the documentation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
from tests.api_server import api_server
from tests.daemon import ROOT

from portico_server.api.routes import PAGE_FILES, ROUTES, Route, as_markdown, find_route

KEY = "pk-of-the-operator"
HOST = (b"host", b"127.0.0.1")
LENGTH = (b"content-length", b"10000000")
KEYS_OF_ERRORS = {
    "OpenAI": {"error"},
    "Anthropic": {"type", "error", "request_id"},
    "Ollama": {"error", "code", "param"},
    "JSON-RPC": {"jsonrpc", "id", "error"},
    "A2A, JSON-RPC": {"jsonrpc", "id", "error"},
    "A2A": {"error"},
    "OAuth": {"error", "error_description"},
}
"""Fields of an error document, by the name of its format."""

CASES: Mapping[str, tuple[int, tuple[tuple[bytes, bytes], ...]]] = {
    "a foreign Host": (403, ((b"host", b"evil.example"),)),
    "two Hosts": (400, (HOST, HOST)),
    "a foreign Origin": (403, (HOST, (b"origin", b"http://evil.example"))),
    "a wrong key": (401, (HOST, LENGTH, (b"authorization", b"Bearer pk-wrong"))),
    "no key": (401, (HOST, LENGTH)),
    "a body over the limit": (413, (HOST, LENGTH, (b"authorization", f"Bearer {KEY}".encode()))),
}
"""Refused requests in the order of the checks; all but the last also lack a key."""


class Asked:
    """The gateway's answer to one request, without the network."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""

    async def send(self, message: Any) -> None:
        kind = message["type"].removeprefix("websocket.")
        if kind == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        elif kind == "http.response.body":
            self.body += message.get("body", b"")


async def ask(gateway: Any, route: Route, *headers: tuple[bytes, bytes], method: str = "GET") -> Asked:
    path = path_of(route)
    socket = route.socket is not None
    scope = {
        "type": "websocket" if socket else "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "scheme": "http",
        "server": ("127.0.0.1", 80),
    }
    if not socket:
        scope["method"] = method

    async def receive() -> Mapping[str, Any]:
        return {"type": "websocket.connect" if socket else "http.request", "body": b"", "more_body": False}

    answer = Asked()
    await gateway(scope, receive, answer.send)
    return answer


def path_of(route: Route) -> str:
    """Return a path that has this route."""
    return route.path.replace("*", "" if route.path in ("/v1/models*", "/v1/messages*") else "x") or "/x"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    apps: list[Any] = []

    def hold(app: Any) -> Any:
        apps.append(app)
        return app

    folder = tmp_path_factory.mktemp("home")
    async with api_server(folder, api_key=KEY, max_body_mb=1, wrap=hold):
        yield apps[0]


def name_of(route: Route) -> str:
    return f"{'socket' if route.socket else 'http'} {route.path}"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("route", ROUTES, ids=name_of)
async def test_every_route_is_checked_for_host_origin_size_and_key(
    gateway: Any, route: Route, case: str
) -> None:
    expected_status, headers = CASES[case]
    if route.socket is not None and expected_status == 413:
        pytest.skip("a WebSocket has no body; its messages are counted")
    answer = await ask(gateway, route, *headers)
    if route is PAGE_FILES and case == "a foreign Origin":  # a module of the page is requested with an Origin
        assert answer.status == 404 and b"access-control-allow-origin" not in answer.headers
        return
    if expected_status == 401 and not route.needs_key:
        assert answer.status != 401
        return
    shape = route.shape_for({"path": path_of(route), "headers": ()})
    # A2A's JSON-RPC reports a bad request with status 200.
    assert answer.status == (
        200 if (shape.name, expected_status) == ("A2A, JSON-RPC", 400) else expected_status
    )
    assert answer.headers[b"x-content-type-options"] == b"nosniff"
    assert orjson.loads(answer.body).keys() == KEYS_OF_ERRORS[shape.name]
    login = answer.headers.get(b"www-authenticate", b"")
    assert (b"resource_metadata" in login) == (expected_status == 401 and route.protocol == "MCP")


def test_only_the_listed_routes_need_no_key() -> None:
    assert {route.path for route in ROUTES if not route.needs_key} == {
        *("/health", "/ready", "/", "/web/*", "/docs", "/docs/*", "/openapi.json", "/favicon.ico"),
        *(
            "/api/public-sessions/*",
            "/api/sign-in",
            "/api/sign-in/callback",
            "/.well-known/oauth-protected-resource*",
            *("/.well-known/oauth-authorization-server", "/register", "/token", "/revoke", "/authorize"),
        ),
    }


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/realtime"])
def test_a_client_secret_is_accepted_only_by_the_realtime_api(path: str) -> None:
    (route,) = (route for route in ROUTES if route.path == path and route.socket)
    assert route.takes_client_secret == (path == "/v1/realtime")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("route", [route for route in ROUTES if route.methods], ids=name_of)
async def test_an_unsupported_method_on_a_hot_path_still_needs_a_key(gateway: Any, route: Route) -> None:
    for method in ("PUT", "OPTIONS"):
        assert (await ask(gateway, route, HOST, method=method)).status == 401


@pytest.mark.parametrize(
    ("path", "row"),
    [
        ("/v1/messages", "/v1/messages"),
        ("/v1/messages/batches", "/v1/messages*"),
        ("/v1/models", "/v1/models*"),
        ("/v1/models/clerk", "/v1/models*"),
        ("/v1/files", "/v1/files*"),
        ("/v1/rerank", "*"),
        ("/mcp", "/mcp"),
        ("/mcp/app/clerk", "/mcp/*"),
        ("/mcpx", "*"),
        ("/a2a", "*"),
        ("/a2a/clerk", "/a2a/*"),
        ("/docs/", "/docs/*"),
        ("/docsx", "*"),
        ("/api/sign-in/callback", "/api/sign-in/callback"),
        ("/api/sign-in/x", "*"),
        ("", "*"),
    ],
)
def test_the_longest_matching_route_is_chosen(path: str, row: str) -> None:
    assert find_route(path).path == row


def test_anthropic_clients_get_anthropic_errors_on_the_shared_models_path() -> None:
    route = find_route("/v1/models")
    assert route.shape_for({"headers": [(b"anthropic-version", b"2023-06-01")]}).name == "Anthropic"
    assert route.shape_for({"headers": []}).name == "OpenAI"


def test_the_documented_route_table_matches_the_code() -> None:
    text = Path(ROOT, "docs/architecture.md").read_text(encoding="utf-8")
    table = text.partition("<!-- routes: begin -->\n")[2].partition("<!-- routes: end -->")[0]
    assert table == as_markdown(), (
        "write what 'python -m portico_server.api.routes' prints between the markers"
    )
