"""Access that one of two daemons on a database grants is valid at both, and ends at both."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from tests import postgres
from tests.daemon import Daemon
from tests.server.daemons import WAIT_S, end, start, until

KEY = "pk-daemons-0123456789"
CONFIGURATION = f"""
settings: {{require_key: true, public_url: "https://portico.example.com"}}
keys:
  - {{name: ada, key: {KEY}, scopes: [chat]}}
"""
CALLBACK = "http://127.0.0.1:8765/callback"
VERIFIER = "verifier-" * 6
HEADERS = {"accept": "application/json, text/event-stream"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    },
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Pair = tuple[Daemon, Daemon]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    with postgres.running() as server:
        database = server.new()
        with ThreadPoolExecutor(2) as threads:
            starting = [threads.submit(start, folder, name, database, CONFIGURATION) for name in "ab"]
            first, second = (future.result() for future in starting)
        yield first, second
        end(first, second)


def post(daemon: Daemon, path: str, **options: Any) -> httpx.Response:
    return httpx.post(f"{daemon.url}{path}", timeout=WAIT_S, **options)


def test_an_oauth_grant_is_valid_at_both_daemons_and_revoking_it_ends_streams(pair: Pair) -> None:
    first, second = pair
    client_id = post(first, "/register", json={"redirect_uris": [CALLBACK]}).json()["client_id"]
    challenge = base64.urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
    query = {
        "response_type": "code",
        "client_id": client_id,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    answer = post(
        second,
        "/api/authorization",
        json={"query": urlencode(query), "approve": True},
        headers={"authorization": f"Bearer {KEY}"},
    )
    code = dict(parse_qsl(urlsplit(answer.json()["location"]).query))["code"]
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "client_id": client_id,
        "redirect_uri": CALLBACK,
    }
    tokens = post(first, "/token", data={**form, "code_verifier": VERIFIER}).json()
    headers = {**HEADERS, "authorization": f"Bearer {tokens['access_token']}"}
    opening = post(second, "/mcp", json=INITIALIZE, headers=headers)
    assert opening.status_code == 200, opening.text
    headers["mcp-session-id"] = opening.headers["mcp-session-id"]
    with httpx.stream("GET", f"{second.url}/mcp", headers=headers, timeout=WAIT_S) as stream:
        assert stream.status_code == 200
        response = post(first, "/revoke", data={"token": tokens["refresh_token"], "client_id": client_id})
        assert response.status_code == 200
        with contextlib.suppress(httpx.RemoteProtocolError):
            for _ in stream.iter_bytes():
                pass
    until(
        lambda: post(second, "/mcp", json=INITIALIZE, headers=headers).status_code == 401,
        "the token is refused at the other daemon",
    )
