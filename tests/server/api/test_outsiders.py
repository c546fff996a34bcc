"""A daemon without a key serves programs on this machine alone, because a proxy on this machine makes every outsider
look like one of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.raw_http import PLAIN, Form, ask

OFFLINE = {"PORTICO_OFFLINE": "1"}
PUBLIC = "portico.example.com"


@pytest.fixture(scope="module")
def keyless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    names = {"PORTICO_ALLOWED_HOSTS": PUBLIC, "PORTICO_ALLOWED_ORIGINS": f"https://{PUBLIC},app://notes,null"}
    with daemons.running(tmp_path_factory.mktemp("home"), env={**OFFLINE, **names}) as daemon:
        yield daemon


FROM_OUTSIDE = {
    "HTTP/1.0": Form(version="1.0"),
    **{
        name: Form({name: "203.0.113.7"})
        for name in (
            *(
                "X-Forwarded-For",
                "X-Forwarded-Proto",
                "x-forwarded-host",
                "X-Forwarded-Whatever",
                "Forwarded",
                "Via",
            ),
            *("X-Real-IP", "CF-Connecting-IP", "CF-Ray", "True-Client-IP", "X-Client-IP", "X-Original-Host"),
            *(
                "Fastly-Client-IP",
                "Fly-Client-IP",
                "X-Envoy-External-Address",
                "X-Azure-ClientIP",
                "X-ARR-LOG-ID",
            ),
        )
    },
    **{host: Form(host=host) for host in (PUBLIC, f"{PUBLIC}:443", "192.168.1.5", "evil.example", "::")},
    **{
        f"Origin {origin}": Form({"Origin": origin})
        for origin in (f"https://{PUBLIC}", "http://192.168.1.5:8642", "https://evil.example", "null")
    },
    "a word instead of a key": Form({"X-Forwarded-For": "203.0.113.7", "Authorization": "Bearer local"}),
    "a Portico key of another daemon": Form({"Via": "1.1 proxy", "Authorization": "Bearer pk-unknown"}),
    "a preflight": Form({"Via": "1.1 proxy", "Access-Control-Request-Method": "POST"}),
}

FACES = (
    *(
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/responses"),
        ("GET", "/v1/files"),
    ),
    *(("POST", "/v1/messages"), ("POST", "/v1/messages/count_tokens")),
    *(("GET", "/api/tags"), ("POST", "/api/chat"), ("GET", "/api/version")),
    *(("GET", "/api/status"), ("GET", "/api/keys"), ("POST", "/api/keys"), ("POST", "/api/shutdown")),
    *(("POST", "/api/tools/shell/call"), ("GET", "/api/artifacts/a"), ("GET", "/api/public-sessions/a")),
    *(
        ("GET", "/metrics"),
        ("POST", "/mcp"),
        ("GET", "/mcp/docs"),
        ("POST", "/a2a/docs"),
        ("POST", "/ag-ui/docs"),
    ),
    *(("GET", "/.well-known/agent-card.json"), ("GET", "/.well-known/oauth-protected-resource/mcp")),
    *(("GET", "/.well-known/oauth-authorization-server"), ("POST", "/register"), ("POST", "/token")),
    *(("GET", "/authorize"), ("POST", "/revoke"), ("GET", "/api/sign-in")),
    *(
        ("GET", "/"),
        ("GET", "/web/index.js"),
        ("GET", "/favicon.ico"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
    ),
    *(
        ("GET", "/nowhere"),
        ("OPTIONS", "/v1/models"),
        ("WEBSOCKET", "/v1/realtime"),
        ("WEBSOCKET", "/v1/responses"),
    ),
)


@pytest.mark.parametrize(("method", "path"), FACES)
def test_a_daemon_without_a_key_refuses_every_request_from_outside_this_machine(
    keyless: Daemon, method: str, path: str
) -> None:
    for name, form in FROM_OUTSIDE.items():
        if (method, name) == ("OPTIONS", "a preflight"):
            continue  # a browser sends it without a key, and its answer holds nothing
        status, body = ask(keyless.url, method, path, form)
        assert (status, "trust_local_proxy" in body, "'portico keys create'" in body) == (401, True, True), (
            name,
            status,
            body,
        )


FROM_HERE = {
    "localhost": Form(host="localhost:8642"),
    "localhost in capitals": Form(host="LocalHost"),
    "127.0.0.1": Form(host="127.0.0.1"),
    "127.1.2.3": Form(host="127.1.2.3:80"),
    "[::1]": Form(host="[::1]:8642"),
    "the page": Form({"Origin": "http://localhost:8642"}, host="localhost:8642"),
    "an app": Form({"Origin": "app://notes"}),
    "a client that must send a key": Form({"Authorization": "Bearer local"}),
    "another word": Form({"x-api-key": "sk-anything"}),
    "trace headers": Form({"X-Request-Id": "1", "traceparent": "00-0-0-00", "X-Title": "editor"}),
}


@pytest.mark.parametrize("name", FROM_HERE)
def test_a_program_on_this_machine_needs_no_key(keyless: Daemon, name: str) -> None:
    for path in ("/v1/models", "/api/keys", "/api/version", "/metrics", "/", "/openapi.json"):
        assert ask(keyless.url, "GET", path, FROM_HERE[name])[0] == 200, path


def test_a_websocket_of_a_program_on_this_machine_needs_no_key(keyless: Daemon) -> None:
    assert ask(keyless.url, "WEBSOCKET", "/v1/responses", PLAIN)[0] == 101


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_health_checks_through_a_proxy_need_no_key(keyless: Daemon, path: str) -> None:
    for name in ("HTTP/1.0", "X-Forwarded-For", PUBLIC):
        assert ask(keyless.url, "GET", path, FROM_OUTSIDE[name])[0] == 200, name
    assert ask(keyless.url, "GET", path, Form(host="evil.example"))[0] == 403


def test_a_proxied_request_with_a_valid_key_is_served(tmp_path: Path) -> None:
    proxied = {"X-Forwarded-For": "203.0.113.7"}
    with daemons.running(tmp_path, env=OFFLINE) as daemon:
        assert ask(daemon.url, "GET", "/", Form(proxied))[0] == 401
        key = create_key(daemon)
        assert (
            ask(daemon.url, "GET", "/v1/models", Form({**proxied, "Authorization": f"Bearer {key}"}))[0]
            == 200
        )
        # The page asks for the key.
        assert ask(daemon.url, "GET", "/", Form(proxied))[0] == 200
        credentials: list[dict[str, str]] = [{}, {"Authorization": "Bearer local"}]
        for credential in credentials:
            for method, path in (("GET", "/api/status"), ("POST", "/mcp"), ("WEBSOCKET", "/v1/responses")):
                status, body = ask(daemon.url, method, path, Form({**proxied, **credential}))
                assert (status, "trust_local_proxy" in body) == (401, True), (method, path, credential)
        assert ask(daemon.url, "GET", "/api/status")[0] == 200


def create_key(daemon: Daemon) -> str:
    """Create an admin key as a program on this machine."""
    body = json.dumps({"name": "a", "scopes": ["admin"]}).encode()
    secret: str = json.loads(ask(daemon.url, "POST", "/api/keys", body=body)[1])["key"]
    return secret


@pytest.mark.slow
def test_the_document_of_the_api_names_no_apps_to_an_outsider(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# A\n\nText.\n", encoding="utf-8")
    with daemons.running(tmp_path / "home", "--docs", str(tmp_path / "docs"), env=OFFLINE) as daemon:
        create_key(daemon)
        app = "/api/apps/docs/run"
        assert app in ask(daemon.url, "GET", "/openapi.json")[1]
        assert app not in ask(daemon.url, "GET", "/openapi.json", FROM_OUTSIDE["Via"])[1]


def test_a_trusted_proxy_needs_no_key(tmp_path: Path) -> None:
    trusting = {
        **OFFLINE,
        "PORTICO_TRUST_LOCAL_PROXY": "true",
        "PORTICO_PUBLIC_URL": f"https://{PUBLIC}",
        "PORTICO_ALLOWED_HOSTS": PUBLIC,
    }
    with daemons.running(tmp_path, env=trusting) as daemon:
        for name in ("HTTP/1.0", "X-Forwarded-For", PUBLIC):
            assert ask(daemon.url, "GET", "/api/status", FROM_OUTSIDE[name])[0] == 200, name
        assert ask(daemon.url, "GET", "/api/status", Form(host="evil.example"))[0] == 403


def test_a_daemon_with_a_public_url_requires_a_key_on_loopback_too(tmp_path: Path) -> None:
    with daemons.running(tmp_path, env=OFFLINE) as daemon:
        key = create_key(daemon)
    with daemons.running(tmp_path, env={**OFFLINE, "PORTICO_PUBLIC_URL": f"https://{PUBLIC}"}) as daemon:
        status, body = ask(daemon.url, "GET", "/api/status")
        assert (status, "trust_local_proxy" in body) == (401, True)
        assert ask(daemon.url, "GET", "/api/status", Form({"Authorization": f"Bearer {key}"}))[0] == 200
