"""Attacks on the daemon as an authorization server. Each one is refused with the error that its RFC prescribes.

Sources: RFC 6749, 6750, 7009, 7591, 7636, 8707, 9207 and 9700, and draft-ietf-oauth-client-id-metadata-document.
"""

from __future__ import annotations

import asyncio
import base64
import http.server
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import update
from tests.api_server import ApiServer, api_server

from portico_server.db import oauth_clients
from portico_server.db.grants import ACCESS_LIFE_S, CODE_LIFE_S, GRANT_LIFE_S
from portico_server.db.schema import grants

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLBACK = "http://127.0.0.1:8765/callback"
VERIFIER = "verifier-" * 6
CHALLENGE = base64.urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
PERSON_SCOPES = ("chat", "stores:docs:read", "tools:calculator:call")


class Documents(http.server.ThreadingHTTPServer):
    """Metadata documents on a loopback port, and the paths that were read."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _DocumentHandler)
        self.documents: dict[str, tuple[int, bytes]] = {}
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def publish(self, path: str, status: int = 200, **changes: Any) -> str:
        """Publish the document of a client; return its address, which is the client's id."""
        address = f"{self.url}{path}"
        document = {"client_id": address, "client_name": "Cimd", "redirect_uris": [CALLBACK], **changes}
        self.documents[path] = (status, json.dumps(document).encode())
        return address


class _DocumentHandler(http.server.BaseHTTPRequestHandler):
    server: Documents

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        status, body = self.server.documents.get(self.path, (404, b""))
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Location", "/client.json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # the name in the base class
        pass


@contextmanager
def documents() -> Iterator[Documents]:
    with Documents() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Target:
    """A daemon under attack, with a registered client and a person's key."""

    served: ApiServer
    documents: Documents
    client_id: str
    key: str

    @property
    def http(self) -> httpx.AsyncClient:
        return self.served.client

    def query(self, **changes: str | None) -> dict[str, str]:
        """Return the parameters of a valid authorization request with changes; ``None`` omits a parameter."""
        parameters: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "state": "state-1",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            "resource": f"{self.served.url}/mcp",
            **changes,
        }
        return {name: value for name, value in parameters.items() if value is not None}

    async def ask(self, query: str, *, approve: bool = True, key: str | None = None) -> httpx.Response:
        return await self.http.post(
            "/api/authorization",
            json={"query": query, "approve": approve},
            headers={"authorization": f"Bearer {key or self.key}"},
        )

    async def code(self, **changes: str | None) -> str:
        answer = await self.ask(urlencode(self.query(**changes)))
        return dict(parse_qsl(urlsplit(answer.json()["location"]).query))["code"]

    async def exchange(self, issued_code: str, **changes: str | None) -> httpx.Response:
        form: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": issued_code,
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
            **changes,
        }
        return await self.http.post("/token", data={k: v for k, v in form.items() if v is not None})

    async def tokens(self, **changes: str | None) -> dict[str, Any]:
        answer = await self.exchange(await self.code(**changes))
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def refresh(self, token: str, **changes: str) -> httpx.Response:
        form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": self.client_id, **changes}
        return await self.http.post("/token", data=form)

    async def call(self, token: str, path: str = "/mcp") -> httpx.Response:
        client = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        }
        return await self.http.post(
            path,
            json={"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client},
            headers={"authorization": f"Bearer {token}", "accept": "application/json, text/event-stream"},
        )

    async def register(self, **document: Any) -> httpx.Response:
        return await self.http.post("/register", json={"redirect_uris": [CALLBACK], **document})

    async def shift(self, column: Any, seconds: float) -> None:
        """Move a time of all grants into the past."""
        await self.served.services.database.write(
            lambda connection: connection.execute(update(grants).values({column: column - seconds}))
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Target]:
    with documents() as server:
        host = server.url.removeprefix("http://")
        async with api_server(tmp_path_factory.mktemp("home"), require_key=True, tool_hosts=host) as daemon:
            _, key = await daemon.auth.create("ada", PERSON_SCOPES)
            answer = await daemon.client.post(
                "/register", json={"client_name": "Tester", "redirect_uris": [CALLBACK]}
            )
            assert answer.status_code == 201, answer.text
            yield Target(daemon, server, answer.json()["client_id"], key)


def redirected(error: str) -> tuple[str, ...]:
    """The browser returns to the client with an error and the issuer."""
    return ("redirected", error)


def shown(error: str) -> tuple[str, ...]:
    """The person sees an error, and the browser does not return to the client."""
    return ("shown", error)


AUTHORIZATION: Mapping[str, tuple[Mapping[str, str | None], tuple[str, ...]]] = {
    "unknown client": ({"client_id": "client_x"}, shown("invalid_client")),
    "no client": ({"client_id": None}, shown("invalid_request")),
    "redirect to another host": ({"redirect_uri": "https://evil.example/callback"}, shown("invalid_request")),
    "redirect to another path": ({"redirect_uri": f"{CALLBACK}/../x"}, shown("invalid_request")),
    "redirect with a longer path": ({"redirect_uri": f"{CALLBACK}2"}, shown("invalid_request")),
    "redirect with another query": ({"redirect_uri": f"{CALLBACK}?next=evil"}, shown("invalid_request")),
    "redirect with user info": (
        {"redirect_uri": "http://127.0.0.1:8765@evil.example/callback"},
        shown("invalid_request"),
    ),
    "redirect with a fragment": ({"redirect_uri": f"{CALLBACK}#x"}, shown("invalid_request")),
    "redirect to localhost instead": (
        {"redirect_uri": "http://localhost:8765/callback"},
        shown("invalid_request"),
    ),
    "redirect by another scheme": (
        {"redirect_uri": "https://127.0.0.1:8765/callback"},
        shown("invalid_request"),
    ),
    "redirect to a script": ({"redirect_uri": "javascript:alert(1)"}, shown("invalid_request")),
    "implicit flow": ({"response_type": "token"}, redirected("unsupported_response_type")),
    "hybrid flow": ({"response_type": "code id_token"}, redirected("unsupported_response_type")),
    "no response type": ({"response_type": None}, redirected("invalid_request")),
    "answer in a fragment": ({"response_mode": "fragment"}, redirected("invalid_request")),
    "no PKCE": ({"code_challenge": None, "code_challenge_method": None}, redirected("invalid_request")),
    "PKCE without a method": ({"code_challenge_method": None}, redirected("invalid_request")),
    "PKCE plain": ({"code_challenge_method": "plain"}, redirected("invalid_request")),
    "PKCE with a short challenge": ({"code_challenge": "abc"}, redirected("invalid_request")),
    "resource of another server": ({"resource": "https://evil.example/mcp"}, redirected("invalid_target")),
    "resource with our name as a prefix": ({"resource": "SELFx/mcp"}, redirected("invalid_target")),
    "resource beyond MCP": ({"resource": "SELF/api"}, redirected("invalid_target")),
    "resource that climbs out of MCP": ({"resource": "SELF/mcp/../api"}, redirected("invalid_target")),
    "unknown scope": ({"scope": "root"}, redirected("invalid_scope")),
    "scope with a wildcard for everything": ({"scope": "*"}, redirected("invalid_scope")),
    "scope admin alone": ({"scope": "admin"}, redirected("invalid_scope")),
    "scope that the person lacks": ({"scope": "finetune"}, redirected("invalid_scope")),
    "request object": ({"request": "eyJhbGciOiJub25lIn0.e30."}, redirected("request_not_supported")),
    "request by reference": (
        {"request_uri": "https://evil.example/r"},
        redirected("request_uri_not_supported"),
    ),
}


@pytest.mark.parametrize("case", AUTHORIZATION)
async def test_an_invalid_authorization_request_is_refused(target: Target, case: str) -> None:
    changes, (kind, error) = AUTHORIZATION[case]
    own_changes = {
        name: value and value.replace("SELF", target.served.url) for name, value in changes.items()
    }
    answer = await target.ask(urlencode(target.query(**own_changes)))
    if kind == "shown":
        assert answer.status_code == 400 and answer.json()["error"]["code"] == error
        return
    location = answer.json()["location"]
    parameters = dict(parse_qsl(urlsplit(location).query))
    assert location.startswith(f"{CALLBACK}?") and "code" not in parameters
    assert (parameters["error"], parameters["iss"]) == (error, target.served.url)
    assert parameters["state"] == "state-1"


TOKEN: Mapping[str, tuple[Mapping[str, str | None], str]] = {
    "a wrong verifier": ({"code_verifier": "x" * 50}, "invalid_grant"),
    "no verifier": ({"code_verifier": None}, "invalid_request"),
    "the challenge as the verifier": ({"code_verifier": CHALLENGE}, "invalid_grant"),
    "another redirect address": ({"redirect_uri": "http://127.0.0.1:1/callback"}, "invalid_request"),
    "no redirect address": ({"redirect_uri": None}, "invalid_request"),
    "a made-up code": ({"code": "x" * 43}, "invalid_grant"),
    "an unknown client": ({"client_id": "client_x"}, "invalid_client"),
    "no client": ({"client_id": None}, "invalid_client"),
    "another resource": ({"resource": "https://evil.example/mcp"}, "invalid_target"),
    "the password grant": ({"grant_type": "password"}, "invalid_request"),
    "the client's own grant": ({"grant_type": "client_credentials"}, "invalid_request"),
}


@pytest.mark.parametrize("case", TOKEN)
async def test_an_invalid_token_request_is_refused(target: Target, case: str) -> None:
    changes, error = TOKEN[case]
    answer = await target.exchange(await target.code(), **changes)
    assert answer.status_code in (400, 401) and answer.json()["error"] == error, answer.text
    assert answer.headers["cache-control"] == "no-store"


REGISTRATION: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "a script": ({"redirect_uris": ["javascript:alert(1)"]}, "invalid_redirect_uri"),
    "a script with slashes": ({"redirect_uris": ["javascript://x/%0aalert(1)"]}, "invalid_redirect_uri"),
    "data": ({"redirect_uris": ["data:text/html,x"]}, "invalid_redirect_uri"),
    "a file": ({"redirect_uris": ["file:///etc/passwd"]}, "invalid_redirect_uri"),
    "http to another machine": ({"redirect_uris": ["http://evil.example/cb"]}, "invalid_redirect_uri"),
    "a fragment": ({"redirect_uris": ["https://a.example/cb#x"]}, "invalid_redirect_uri"),
    "user info": ({"redirect_uris": ["https://a.example@evil.example/"]}, "invalid_redirect_uri"),
    "a line break": ({"redirect_uris": ["https://a.example/\r\nx: y"]}, "invalid_redirect_uri"),
    "one bad address of two": ({"redirect_uris": [CALLBACK, "vbscript://x"]}, "invalid_redirect_uri"),
    "no address": ({"redirect_uris": []}, "invalid_redirect_uri"),
    "many addresses": ({"redirect_uris": [CALLBACK] * 11}, "invalid_redirect_uri"),
    "a name in another direction": ({"client_name": "a\u202eb"}, "invalid_client_metadata"),
    "a name with markup": ({"client_name": "<b>Portico</b>"}, "invalid_client_metadata"),
    "a huge document": ({"client_uri": "x" * 100_000}, "invalid_request"),
    "the implicit flow": ({"response_types": ["token"]}, "invalid_client_metadata"),
    "the client's own grant": ({"grant_types": ["client_credentials"]}, "invalid_client_metadata"),
}


@pytest.mark.parametrize("case", REGISTRATION)
async def test_an_invalid_client_registration_is_refused(target: Target, case: str) -> None:
    document, error = REGISTRATION[case]
    answer = await target.register(**document)
    assert answer.status_code in (400, 413) and answer.json()["error"] == error, answer.text


DOCUMENTS: Mapping[str, Callable[[Documents], str]] = {
    "of another client": lambda server: server.publish("/other.json", client_id="https://a.example/c.json"),
    "with a secret": lambda server: server.publish(
        "/secret.json", token_endpoint_auth_method="client_secret_post"
    ),
    "that redirects": lambda server: server.publish("/moved.json", status=302),
    "that is huge": lambda server: server.publish("/huge.json", client_uri="x" * 100_000),
    "that is missing": lambda server: f"{server.url}/missing.json",
    "with a script as the redirect": lambda server: server.publish(
        "/js.json", redirect_uris=["javascript:x"]
    ),
    "at a private address": lambda _: "https://10.0.0.1/client.json",
    "at a link-local address": lambda _: "http://169.254.169.254/latest/meta-data",
    "on this machine": lambda _: "https://127.0.0.1:9/client.json",
    "at localhost": lambda _: "https://localhost/client.json",
    "without a path": lambda server: server.url,
    "with user info": lambda _: "https://a@evil.example/client.json",
    "with a fragment": lambda _: "https://a.example/client.json#x",
    "without TLS": lambda _: "http://a.example/client.json",
    "in a file": lambda _: "file:///etc/passwd",
}


@pytest.mark.parametrize("case", DOCUMENTS)
async def test_an_invalid_client_metadata_document_is_refused(target: Target, case: str) -> None:
    client_id = DOCUMENTS[case](target.documents)
    answer = await target.ask(urlencode(target.query(client_id=client_id)))
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] in ("invalid_client", "invalid_redirect_uri")


async def test_a_client_with_a_metadata_document_gets_tokens(target: Target) -> None:
    client_id = target.documents.publish("/client.json")
    code = await target.code(client_id=client_id)
    answer = await target.exchange(code, client_id=client_id)
    assert answer.status_code == 200 and (await target.call(answer.json()["access_token"])).is_success
    assert target.documents.paths.count("/client.json") <= 2


async def used_code(target: Target) -> tuple[httpx.Response, str]:
    """A code that is used twice revokes what its first use granted."""
    code = await target.code()
    first = (await target.exchange(code)).json()
    answer = await target.exchange(code)
    return answer, first["access_token"]


async def used_refresh_token(target: Target) -> tuple[httpx.Response, str]:
    """A refresh token that is used twice revokes the tokens of its family."""
    first = await target.tokens()
    second = (await target.refresh(first["refresh_token"])).json()
    return await target.refresh(first["refresh_token"]), second["access_token"]


@pytest.mark.parametrize("attack", [used_code, used_refresh_token])
async def test_reusing_a_code_or_refresh_token_revokes_its_tokens(
    target: Target, attack: Callable[[Target], Awaitable[tuple[httpx.Response, str]]]
) -> None:
    answer, access_token = await attack(target)
    assert answer.status_code == 400 and answer.json()["error"] == "invalid_grant"
    response = await target.call(access_token)
    assert response.status_code == 401 and 'error="invalid_token"' in response.headers["www-authenticate"]


async def test_a_code_and_a_refresh_token_are_of_one_client(target: Target) -> None:
    other_client_id = (await target.register(client_name="Other")).json()["client_id"]
    code = await target.code()
    assert (await target.exchange(code, client_id=other_client_id)).json()["error"] == "invalid_grant"
    tokens = (await target.exchange(code)).json()
    assert (await target.refresh(tokens["refresh_token"], client_id=other_client_id)).json()[
        "error"
    ] == "invalid_grant"
    response = await target.http.post(
        "/revoke", data={"token": tokens["access_token"], "client_id": other_client_id}
    )
    assert response.status_code == 200 and (await target.call(tokens["access_token"])).is_success


async def test_a_refresh_never_widens_a_grant(target: Target) -> None:
    tokens = await target.tokens(scope="chat")
    answer = await target.refresh(tokens["refresh_token"], scope="chat stores:docs:read")
    assert answer.json()["error"] == "invalid_scope"
    answer = await target.refresh(tokens["refresh_token"], resource=f"{target.served.url}/mcp/apps/x")
    assert answer.json()["error"] == "invalid_target"


async def test_a_grant_has_no_right_that_the_person_lacks(target: Target) -> None:
    tokens = await target.tokens(scope="admin chat finetune stores:*:manage tools:*:call")
    assert tokens["scope"] == "chat tools:calculator:call"
    row, key = await target.served.auth.create("bob", ["chat", "stores:docs:read"])
    answer = await target.ask(urlencode(target.query()), key=key)
    code = dict(parse_qsl(urlsplit(answer.json()["location"]).query))["code"]
    tokens = (await target.exchange(code)).json()
    assert tokens["scope"] == "chat stores:docs:read"
    await target.served.auth.change(row.id, scopes=["models:read"])
    grant = await target.served.auth.grants.of_token(tokens["access_token"], f"{target.served.url}/mcp")
    assert target.served.auth.grants.caller(grant).scopes == frozenset()
    await target.served.auth.revoke(row.id)
    assert (await target.call(tokens["access_token"])).status_code == 401
    assert (await target.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("path", ["/v1/models", "/api/keys", "/api/authorization", "/a2a/x", "/v1/responses"])
async def test_an_access_token_is_valid_at_its_resource_alone(target: Target, path: str) -> None:
    token = (await target.tokens())["access_token"]
    assert (await target.call(token)).is_success
    assert (await target.call(token, path)).status_code == 401
    narrow = (await target.tokens(resource=f"{target.served.url}/mcp/stores/docs"))["access_token"]
    assert (await target.call(narrow)).status_code == 401


async def test_a_token_in_the_address_counts_for_nothing(target: Target) -> None:
    token = (await target.tokens())["access_token"]
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert (await target.http.post(f"/mcp?access_token={token}", json=ping)).status_code == 401
    form = {"grant_type": "authorization_code", "code": await target.code(), "client_id": target.client_id}
    query = urlencode({**form, "redirect_uri": CALLBACK, "code_verifier": VERIFIER})
    answer = await target.http.post(f"/token?{query}", data={"x": "y"})
    assert answer.json()["error"] == "invalid_client"


async def test_repeated_parameters_are_refused(target: Target) -> None:
    query = urlencode([*target.query().items(), ("redirect_uri", "https://evil.example/")])
    assert (await target.ask(query)).json()["error"]["code"] == "invalid_request"
    body = urlencode([("client_id", target.client_id), ("client_id", "client_x"), ("code", "x")])
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert (await target.http.post("/token", content=body, headers=kind)).json()["error"] == "invalid_request"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer pk-wrong"},
        {"cookie": "portico-signed-in=x", "sec-fetch-site": "cross-site"},
    ],
    ids=["nobody", "a wrong key", "another site"],
)
async def test_nothing_is_granted_without_the_person(target: Target, headers: dict[str, str]) -> None:
    body = {"query": urlencode(target.query()), "approve": True}
    answer = await target.http.post("/api/authorization", json=body, headers=headers)
    assert answer.status_code == 401
    page = await target.http.get("/authorize", params=target.query(), headers=headers)
    assert page.status_code == 200 and "location" not in page.headers


async def test_another_site_cannot_answer_for_the_person(target: Target) -> None:
    body = {"query": urlencode(target.query()), "approve": True}
    headers = {"authorization": f"Bearer {target.key}", "origin": "https://evil.example"}
    assert (await target.http.post("/api/authorization", json=body, headers=headers)).status_code == 403
    form = await target.http.post(
        "/api/authorization", data={"approve": "true"}, headers={"authorization": f"Bearer {target.key}"}
    )
    assert form.status_code == 400


async def test_expired_codes_and_tokens_are_refused(target: Target) -> None:
    code = await target.code()
    await target.shift(grants.c.issued_at, CODE_LIFE_S + 1)
    assert (await target.exchange(code)).json()["error"] == "invalid_grant"
    tokens = await target.tokens()
    await target.shift(grants.c.expires_at, ACCESS_LIFE_S + 1)
    await target.served.auth.grants.refresh()
    response = await target.call(tokens["access_token"])
    assert response.status_code == 401 and 'error="invalid_token"' in response.headers["www-authenticate"]
    await target.shift(grants.c.issued_at, GRANT_LIFE_S + 1)
    assert (await target.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
async def test_a_client_revokes_its_grant_with_either_token(target: Target, name: str) -> None:
    tokens = await target.tokens()
    form = {"token": tokens[name], "client_id": target.client_id}
    assert (await target.http.post("/revoke", data=form)).status_code == 200
    assert (await target.http.post("/revoke", data=form)).status_code == 200
    assert (await target.call(tokens["access_token"])).status_code == 401
    assert (await target.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"


async def test_a_grant_that_ends_while_its_tokens_are_issued_stays_ended(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = await target.tokens()
    owned_grants, database = target.served.auth.grants, target.served.services.database
    grant = await owned_grants.of_token(tokens["access_token"], f"{target.served.url}/mcp")
    read, may_revoke, has_revoked = database.read, asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any) -> Any:
        result = await read(*arguments)
        if grant.id in arguments:
            may_revoke.set()
            await has_revoked.wait()
        return result

    monkeypatch.setattr(database, "read", slow)
    issuing = asyncio.create_task(owned_grants.issue(grant, ["chat"], tokens["refresh_token"]))
    issuing.add_done_callback(lambda _task: may_revoke.set())
    await may_revoke.wait()
    await owned_grants.revoke(grant.id)
    has_revoked.set()
    issued_tokens = await issuing
    assert issued_tokens is not None
    assert (await target.call(issued_tokens.access)).status_code == 401


async def test_the_port_of_an_app_on_this_machine_may_differ(target: Target) -> None:
    redirect = "http://127.0.0.1:50123/callback"
    code = await target.code(redirect_uri=redirect)
    assert (await target.exchange(code, redirect_uri=redirect)).status_code == 200


async def test_the_database_contains_no_token(target: Target) -> None:
    tokens = await target.tokens()
    paths = [path for path in target.served.services.settings.home.rglob("*") if path.is_file()]
    for secret in (tokens["access_token"], tokens["refresh_token"]):
        assert not any(secret.encode() in path.read_bytes() for path in paths)


async def test_one_address_registers_a_bounded_number_of_clients(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oauth_clients, "MAX_REGISTRATIONS", 3)
    answers = [await target.register() for _ in range(4)]
    assert answers[-1].status_code == 429 and answers[-1].json()["error"] == "temporarily_unavailable"
    assert int(answers[-1].headers["retry-after"]) > 0


async def test_a_person_has_a_bounded_number_of_grants(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portico_server.db.grants.MAX_PER_OWNER", 2)
    tokens = [(await target.tokens())["access_token"] for _ in range(3)]
    assert [(await target.call(token)).status_code for token in tokens] == [401, 200, 200]
