"""Sign-in through an issuer in the page: the requests to the issuer, the browser's cookies, and what they allow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import select
from tests.api_server import ApiServer, RelayModel, api_server
from tests.oidc_issuers import CLIENT, CONFIDENTIAL, SECRET, Provider, provider
from tests.server.api.auth.test_oidc import ADMIN, LIMIT, ROLES, bearer, rest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from portico_server.api import calls
from portico_server.api.auth import issuer_client, sign_ins
from portico_server.api.auth.cookies import SIGNED_IN, STARTED
from portico_server.api.auth.issuer_client import IssuedTokens, IssuerClient
from portico_server.api.auth.sign_ins import SignIns
from portico_server.core.errors import InvalidRequest
from portico_server.core.roles import Role
from portico_server.db.schema import sign_ins as table
from portico_server.http.fetch.fetcher import OutwardFetcher
from portico_server.http.fetch.policy import AddressPolicy
from portico_server.services import Services

OURS = {"sec-fetch-site": "same-origin"}
"""Headers that a browser sends with a request of our own page."""


@pytest.fixture(scope="module")
def issuer() -> Iterator[Provider]:
    users = {
        "ada": {"groups": ["sales"], "preferred_username": "Ada"},
        "eve": {"groups": ["sales"]},
        "bob": {"groups": ["cleaning"]},
    }
    with provider(users) as oidc_provider:
        yield oidc_provider


@dataclass(frozen=True, slots=True)
class Served:
    """A daemon and the browsers that are closed before it ends."""

    api_server: ApiServer
    browsers: AsyncExitStack

    @property
    def url(self) -> str:
        return self.api_server.url

    @property
    def client(self) -> httpx.AsyncClient:
        return self.api_server.client

    @property
    def services(self) -> Services:
        return self.api_server.services


@asynccontextmanager
async def daemon(folder: Path, issuer: Provider, **settings: Any) -> AsyncIterator[Served]:
    options = {"oidc_client_id": CLIENT, "oidc_hosts": "127.0.0.1", "api_key": ADMIN, **settings}
    async with (
        api_server(folder, roles=ROLES, oidc_issuer=issuer.issuer, **options) as server,
        AsyncExitStack() as browsers,
    ):
        yield Served(server, browsers)


class Browser:
    """A browser as the daemon sees it: it keeps cookies and states where a request comes from."""

    def __init__(self, served: Served, issuer: Provider) -> None:
        self.url = served.url
        self.issuer = issuer
        self.client = httpx.AsyncClient(base_url=served.url, timeout=60)
        served.browsers.push_async_callback(self.client.aclose)

    async def start(self) -> str:
        """Return the address that the page receives to navigate to."""
        answer = await self.client.post("/api/sign-in", json={}, headers=OURS)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["address"])

    async def agree(self, address: str, subject: str, **form: str) -> str:
        """Sign in at the issuer and return the address of its redirect."""
        async with httpx.AsyncClient(timeout=60) as http_client:
            answer = await http_client.post(address, data={"sub": subject, **form})
        return answer.headers["location"]

    async def back(self, location: str) -> str:
        """Return to the daemon and follow its redirect; return the address."""
        answer = await self.client.get(location, headers={"sec-fetch-site": "cross-site"})
        assert answer.status_code == 303, answer.text
        assert (
            answer.headers["cache-control"] == "no-store"
            and answer.headers["referrer-policy"] == "no-referrer"
        )
        return str(answer.headers["location"])

    async def sign_in(self, subject: str) -> str:
        return await self.back(await self.agree(await self.start(), subject))

    async def get(self, path: str = "/v1/models", headers: dict[str, str] = OURS) -> httpx.Response:
        return await self.client.get(path, headers=headers)


def holds(folder: Path, *words: bytes) -> bool:
    """Return whether a file in the folder contains any of the words."""
    return any(word in path.read_bytes() for path in folder.rglob("*") if path.is_file() for word in words)


def code(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json().get("error", {}).get("code")


async def test_signing_in_on_the_page_grants_the_rights_of_the_token(
    tmp_path: Path, issuer: Provider
) -> None:
    async with daemon(tmp_path, issuer) as server:
        server.api_server.add(RelayModel("teller", b"{}"))
        metadata = (await server.client.get("/.well-known/oauth-protected-resource")).json()
        assert metadata["portico_sign_in"] == [{"issuer": issuer.issuer, "client_id": CLIENT, "page": True}]
        browser = Browser(server, issuer)
        address = await browser.start()
        query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert query["redirect_uri"] == f"{server.url}/api/sign-in/callback"
        assert query["code_challenge_method"] == "S256" and query["response_type"] == "code"
        secret = browser.client.cookies[STARTED]
        assert not {secret, secret.partition(".")[0]} & set(query.values())
        assert await browser.sign_in("ada") == "/"
        assert STARTED not in browser.client.cookies
        session = browser.client.cookies[SIGNED_IN]
        for path in ("/v1/models", "/api/tools"):
            assert (await browser.get(path)).status_code == 200, path
        identity = (await browser.get("/api/whoami")).json()
        assert (identity["name"], identity["by"], identity["subject"]) == ("Ada", "page", "ada")
        assert identity["role"]
        assert identity["scopes"] == sorted(ROLES[1].scopes) and identity["expires_at"] > time.time()
        with_token = (await server.client.get("/api/whoami", headers=bearer(issuer.token("ada")))).json()
        assert {**with_token, "by": "page", "expires_at": 0} == {**identity, "expires_at": 0}
        assert code(await browser.get("/api/keys")) == (403, "insufficient_scope")

        # If a request carries a key, only the key counts, whatever it is.
        assert (await browser.get("/api/whoami", {**OURS, **bearer(ADMIN)})).json()["name"] == "operator"
        assert code(await browser.get(headers={**OURS, **bearer("pk-unknown")})) == (401, "invalid_api_key")

        # Neither the stored data nor the log reveals it.
        assert await asyncio.to_thread(holds, tmp_path, b"ada")
        assert not await asyncio.to_thread(holds, tmp_path, session.encode(), b"eyJ")

        answer = await browser.client.delete("/api/sign-in", headers=OURS)
        assert answer.json() == {"signed_out": True} and SIGNED_IN not in browser.client.cookies
        assert len(issuer.seen()["revoked"]) == 1
        assert code(await browser.get()) == (401, "missing_api_key")
        stolen = {**OURS, "cookie": f"{SIGNED_IN}={session}"}
        assert code(await browser.get(headers=stolen)) == (401, "sign_in_ended")
        assert (await browser.client.delete("/api/sign-in", headers=OURS)).json() == {"signed_out": False}


async def test_the_session_cookie_is_accepted_only_for_requests_of_the_own_page(
    tmp_path: Path, issuer: Provider
) -> None:
    async with daemon(tmp_path, issuer, allowed_origins="https://friend.example.com") as server:
        browser = Browser(server, issuer)
        assert await browser.sign_in("ada") == "/"
        elsewhere = {"origin": "https://friend.example.com"}
        host = urlsplit(server.url).netloc
        for headers, expected_status in [
            (OURS, 200),
            ({**OURS, "origin": server.url}, 200),
            ({"origin": server.url}, 200),
            ({}, 200),  # over http, a browser on another machine omits the header when it reads
            ({"sec-fetch-site": "none"}, 401),
            ({"sec-fetch-site": "same-site"}, 401),
            ({"sec-fetch-site": "cross-site", **elsewhere}, 401),
            (elsewhere, 401),
        ]:
            assert (await browser.get("/api/tools", headers)).status_code == expected_status, headers
        ask = {"name": "x"}
        for headers, status in [({}, 401), (elsewhere, 401), ({"origin": server.url}, 403), (OURS, 403)]:
            answer = await browser.client.post("/api/keys", json={**ask, "scopes": ["chat"]}, headers=headers)
            assert answer.status_code == status, (headers, answer.text)
        response = await browser.client.get("/api/tools", headers={"origin": f"https://evil.{host}"})
        assert code(response) == (403, "origin_not_allowed")

        # Only our page can start signing in and out.
        for headers in ({}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, elsewhere):
            for method in ("POST", "DELETE"):
                body = {"json": {}} if method == "POST" else {}
                answer = await browser.client.request(method, "/api/sign-in", headers=headers, **body)
                assert code(answer) == (403, "origin_not_allowed"), (method, headers)
        assert (await browser.get()).status_code == 200

        # A WebSocket always names its origin.
        address = server.url.replace("http", "ws", 1) + "/v1/responses"
        cookies = {"cookie": f"{SIGNED_IN}={browser.client.cookies[SIGNED_IN]}"}
        async with connect(address, additional_headers={**cookies, **OURS}, origin=server.url):  # type: ignore[arg-type]
            pass
        for headers in (cookies, {**cookies, "sec-fetch-site": "cross-site"}):
            with pytest.raises(InvalidStatus) as refusal:
                async with connect(address, additional_headers=headers):
                    pass
            assert refusal.value.response.status_code == 401


async def test_a_failed_sign_in_redirects_only_to_the_page_with_an_error_code(
    tmp_path: Path, issuer: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with daemon(tmp_path, issuer) as server:
        browser, victim = Browser(server, issuer), Browser(server, issuer)
        assert await browser.sign_in("bob") == "/?sign-in=no_role"
        denied = await browser.agree(await browser.start(), "ada", action="deny")
        assert await browser.back(denied) == "/?sign-in=denied"

        # A link that somebody sends cannot sign a browser in: another browser, or none, began that sign-in.
        location = await browser.agree(await browser.start(), "eve")
        assert await victim.back(location) == "/?sign-in=expired"
        await victim.start()
        assert await victim.back(location) == "/?sign-in=expired"
        assert await browser.back(f"{server.url}/api/sign-in/callback") == "/?sign-in=expired"
        assert SIGNED_IN not in victim.client.cookies

        # Every part of the address that the issuer did not send.
        for change in (
            "state=&",
            "iss=https%3A%2F%2Fevil.example.com&",
            "code=&",
            "code=stolen&",
            "state=%F0%9F%98%80&",
        ):
            location = await browser.agree(await browser.start(), "ada")
            name = change.partition("=")[0]
            parameters = [
                pair for pair in urlsplit(location).query.split("&") if not pair.startswith(f"{name}=")
            ]
            place = (
                f"{server.url}/api/sign-in/callback?{change}{'&'.join(parameters)}&next=//evil.example.com"
            )
            redirect = await browser.back(place)
            assert redirect == f"/?sign-in={'expired' if name == 'state' else 'failed'}", (change, redirect)
        without = location.partition("?")[2].replace("iss=", "no=")
        await browser.start()
        assert (await browser.back(f"{server.url}/api/sign-in/callback?{without}")).startswith("/?sign-in=")

        # A code and a state are valid once.
        address = await browser.start()
        cookie = browser.client.cookies[STARTED]
        location = await browser.agree(address, "ada")
        assert await browser.back(location) == "/"
        browser.client.cookies.set(STARTED, cookie)
        assert await browser.back(location) == "/?sign-in=failed"

        # An issuer that hangs, answers with nonsense, or returns a token for somebody else's sign-in.
        location = await browser.agree(await browser.start(), "ada")
        issuer.behave(hangs=True)
        try:
            with monkeypatch.context() as patched:
                patched.setattr(issuer_client, "ASK_TIMEOUT_S", 0.5)
                assert await browser.back(location) == "/?sign-in=issuer"
        finally:
            issuer.behave(hangs=False)
        location = await browser.agree(await browser.start(), "ada")
        issuer.behave(down=True)
        try:
            assert await browser.back(location) == "/?sign-in=issuer"
        finally:
            issuer.behave(down=False)
        address = await browser.start()
        other_location = await browser.agree(address.replace("nonce=", "nonce=not"), "ada")
        assert await browser.back(other_location) == "/?sign-in=failed"
        for body in ({"issuer": "https://evil.example.com"}, {"issuer": 5}, {"back": "//evil"}):
            answer = await browser.client.post("/api/sign-in", json=body, headers=OURS)
            assert answer.status_code == 400, answer.text


async def test_ten_thousand_unfinished_sign_ins_leave_no_stored_state(
    tmp_path: Path, issuer: Provider
) -> None:
    async with daemon(tmp_path, issuer) as server:
        services: Services = server.services
        back = f"{server.url}/api/sign-in/callback"
        for _ in range(10_000):
            await services.sign_ins.start(None, back)
        assert not services.sign_ins._sign_ins
        browser = Browser(server, issuer)
        assert await browser.sign_in("ada") == "/"


async def test_a_confidential_client_must_authenticate_with_its_secret(
    tmp_path: Path, issuer: Provider
) -> None:
    settings = {"oidc_client_id": CONFIDENTIAL, "oidc_client_secret": SECRET}
    async with daemon(tmp_path, issuer, **settings) as server:
        assert await Browser(server, issuer).sign_in("ada") == "/"
        settings_text = (await server.client.get("/api/settings", headers=bearer(ADMIN))).text
        assert SECRET not in settings_text
    async with daemon(tmp_path, issuer, **{**settings, "oidc_client_secret": "another"}) as server:
        assert await Browser(server, issuer).sign_in("ada") == "/?sign-in=failed"


async def test_cookies_over_https_are_secure_and_bound_to_the_host(tmp_path: Path, issuer: Provider) -> None:
    async with daemon(tmp_path, issuer, public_url="https://127.0.0.1:9") as server:
        answer = await server.client.post("/api/sign-in", json={}, headers=OURS)
        assert (
            "redirect_uri=https%3A%2F%2F127.0.0.1%3A9%2Fapi%2Fsign-in%2Fcallback" in answer.json()["address"]
        )
        (cookie,) = answer.headers.get_list("set-cookie")
        assert cookie.startswith(f"__Host-{STARTED}=")
        assert {part.strip() for part in cookie.split(";")[1:]} == {
            *("Path=/", "HttpOnly", "SameSite=Lax", "Max-Age=600", "Secure"),
        }
        # A cookie that arrived over http is worth nothing there.
        address = answer.json()["address"]
        location = await Browser(server, issuer).agree(address, "ada")
        secret = cookie.partition("=")[2].partition(";")[0]
        query = urlsplit(location).query
        for name, expected_location in ((STARTED, "/?sign-in=expired"), (f"__Host-{STARTED}", "/")):
            headers = {"cookie": f"{name}={secret}"}
            done = await server.client.get(f"/api/sign-in/callback?{query}", headers=headers)
            assert done.headers["location"] == expected_location, done.headers
        session = done.headers.get_list("set-cookie")[1]
        assert session.startswith(f"__Host-{SIGNED_IN}=") and "SameSite=Strict" in session
        assert "Secure" in session and "HttpOnly" in session and "Max-Age" not in session


SLACK = {"oidc_leeway": 1_000.0}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock that decides when sign-ins are renewed and end, shifted by ``later``.

    With `SLACK`, a token lasts 4,600 seconds and is renewed after 2,600. A token issued after that, by the issuer's
    clock, is renewed halfway to the end of the first.
    """
    fake_time = SimpleNamespace(later=0.0, monotonic=time.monotonic)
    fake_time.time = lambda: time.time() + fake_time.later
    monkeypatch.setattr(sign_ins, "time", fake_time)
    monkeypatch.setattr(sign_ins, "READ_TTL_S", 0.0)
    monkeypatch.setattr(sign_ins, "RENEW_AHEAD_S", 2_000.0)
    return fake_time


async def test_a_sign_in_lasts_as_long_as_its_issuer_renews_it(
    tmp_path: Path, issuer: Provider, clock: SimpleNamespace
) -> None:
    async with daemon(tmp_path, issuer, **SLACK) as server:
        browser = Browser(server, issuer)
        assert await browser.sign_in("ada") == "/"
        identity = (await browser.get("/api/whoami")).json()
        clock.later = 3_000.0
        assert {
            (await pending_response).status_code
            for pending_response in asyncio.as_completed([browser.get() for _ in range(8)])
        } == {200}
        assert issuer.seen()["grants"][-2:] == ["authorization_code", "refresh_token"]  # one for all eight
        assert (await browser.get("/api/whoami")).json()["id"] == identity["id"]

        # While the issuer is down, the previous token remains valid.
        issuer.behave(down=True)
        try:
            clock.later = 4_000.0
            assert (await browser.get()).status_code == 200
        finally:
            issuer.behave(down=False)
        # An answer without a new ID token renews nothing, and the last token remains valid until it expires.
        issuer.behave(id_tokens=False)
        try:
            clock.later = 4_100.0
            assert (await browser.get()).status_code == 200
            clock.later = 4_700.0
            assert code(await browser.get()) == (401, "sign_in_ended")
        finally:
            issuer.behave(id_tokens=True)

        # A user whom the issuer has removed is signed out at the next renewal.
        clock.later = 0.0
        assert await browser.sign_in("ada") == "/"
        issuer.forget("ada")
        clock.later = 3_000.0
        assert code(await browser.get()) == (401, "sign_in_ended")
        assert code(await browser.get()) == (401, "sign_in_ended")


async def test_a_user_blocked_by_an_admin_is_signed_out_everywhere_until_unblocked(
    tmp_path: Path, issuer: Provider, clock: SimpleNamespace
) -> None:
    async with daemon(tmp_path, issuer, **SLACK) as server:
        admin = bearer(ADMIN)
        browsers = [Browser(server, issuer) for _ in range(2)]
        for browser in browsers:
            assert await browser.sign_in("ada") == "/"
        identity_id = (await browsers[0].get("/api/whoami")).json()["id"]
        assert (await server.client.delete(f"/api/keys/{identity_id}", headers=admin)).status_code == 200
        for browser in browsers:
            assert code(await browser.get()) == (401, "sign_in_ended")
        assert await browsers[0].sign_in("ada") == "/?sign-in=blocked"
        (kept_out,) = (await server.client.get("/api/keys?blocked=true", headers=admin)).json()["data"]
        assert (kept_out["id"], kept_out["subject"]) == (identity_id, "ada") and kept_out["blocked_at"] > 0

        path = f"/api/keys/{identity_id}/unblock"
        eve = bearer(issuer.token("eve"))
        assert code(await server.client.post(path, headers=eve)) == (403, "insufficient_scope")
        assert code(await server.client.get("/api/keys?blocked=true", headers=eve)) == (
            403,
            "insufficient_scope",
        )
        let_in = await server.client.post(path, headers=admin)
        assert let_in.status_code == 200 and let_in.json()["scopes"] == []
        assert code(await server.client.post(path, headers=admin)) == (404, "key_not_found")
        key = (
            await server.client.post("/api/keys", json={"name": "k", "scopes": ["chat"]}, headers=admin)
        ).json()["id"]
        await server.client.delete(f"/api/keys/{key}", headers=admin)
        response = await server.client.post(f"/api/keys/{key}/unblock", headers=admin)
        assert code(response) == (404, "key_not_found")
        assert code(await browsers[1].get()) == (401, "sign_in_ended")  # the browser was signed in before
        assert await browsers[0].sign_in("ada") == "/"
        assert (await browsers[0].get()).status_code == 200
        assert (await server.client.get("/v1/models", headers=bearer(issuer.token("ada")))).status_code == 200


async def test_sign_ins_are_bounded_end_when_idle_and_are_shared_by_daemons(
    tmp_path: Path, issuer: Provider, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_ins, "MAX_PER_IDENTITY", 2)
    async with daemon(tmp_path, issuer, **SLACK) as server:
        eve, *ada = [Browser(server, issuer) for _ in range(4)]
        assert await eve.sign_in("eve") == "/"
        for browser in ada:
            assert await browser.sign_in("ada") == "/"
        assert [(await browser.get()).status_code for browser in (eve, *ada)] == [200, 401, 200, 200]

        # Another daemon on the same database knows the sign-ins, and a sign-in that one daemon ends also ends
        # on the other.
        services = server.services
        other_sign_ins = SignIns(
            services.database,
            services.settings,
            services.sign_ins._verifier,
            OutwardFetcher(AddressPolicy.of("127.0.0.1")),
            services.auth,
        )
        secret = str(ada[2].client.cookies[SIGNED_IN])
        assert (await other_sign_ins.caller(secret)).caller.id == (await ada[2].get("/api/whoami")).json()[
            "id"
        ]
        clock.later = 3_000.0
        callers = await asyncio.gather(other_sign_ins.caller(secret), services.sign_ins.caller(secret))
        assert callers[0].caller == callers[1].caller
        assert issuer.seen()["grants"].count("refresh_token") >= 1
        assert await other_sign_ins.end(secret)
        assert code(await ada[2].get()) == (401, "sign_in_ended")
        clock.later = 0.0

        # The sign-in was idle for too long. The database has its own clock.
        object.__setattr__(services.settings, "sign_in_idle", -1.0)
        assert code(await ada[1].get()) == (401, "sign_in_ended")
        assert await services.database.read(lambda connection: connection.execute(select(table)).all()) != []
        await eve.sign_in("eve")
        assert (
            len(await services.database.read(lambda connection: connection.execute(select(table)).all())) == 1
        )


async def test_a_stream_continues_while_its_user_is_signed_in_and_ends_on_sign_out(
    tmp_path: Path, issuer: Provider, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "MAX_TIMER_S", 0.01)
    monkeypatch.setattr(calls, "time", clock)
    renewal = asyncio.Event()
    ask_issuer = IssuerClient.renew

    async def renew(client: IssuerClient, refresh_token: str) -> IssuedTokens:
        renewal.set()
        return await ask_issuer(client, refresh_token)

    monkeypatch.setattr(IssuerClient, "renew", renew)
    issuer.behave(life_s=100_000)
    try:
        async with daemon(tmp_path, issuer, **SLACK) as server:
            model = RelayModel("teller", b'data: {"choices":[]}\n\n', hold=asyncio.Event())
            server.api_server.add(model)
            browser, second_browser = Browser(server, issuer), Browser(server, issuer)
            for current_browser in (browser, second_browser):
                assert await current_browser.sign_in("ada") == "/"
            ask = {"model": "teller", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
            async with (
                asyncio.timeout(LIMIT),
                browser.client.stream("POST", "/v1/chat/completions", json=ask, headers=OURS) as answer,
            ):
                await model.began.wait()
                clock.later = 4_700.0
                await renewal.wait()  # without a request
                assert (await second_browser.client.delete("/api/sign-in", headers=OURS)).json() == {
                    "signed_out": True
                }
                assert not model.left.is_set()
                assert (await browser.client.delete("/api/sign-in", headers=OURS)).json() == {
                    "signed_out": True
                }
                assert "sign_in_ended" in await rest(answer)
                await model.left.wait()
    finally:
        issuer.behave(life_s=0)


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"oidc_client_id": "a,b"}, "oidc_client_id"),
        ({"oidc_client_secret": "s"}, "oidc_client_id"),
        ({"oidc_client_id": "a", "oidc_scopes": "profile"}, "oidc_scopes"),
        ({"oidc_cli_client_id": "a,b"}, "oidc_cli_client_id"),
        ({"oidc_cli_client_id": "a" * 256}, "oidc_cli_client_id"),
        ({"oidc_cli_client_id": "a", "oidc_client_id": "a", "oidc_client_secret": "s"}, "oidc_cli_client_id"),
        ({"oidc_cli_client_id": "a", "oidc_scopes": "profile"}, "oidc_scopes"),
    ],
)
async def test_unusable_oidc_client_settings_prevent_the_daemon_from_starting(
    tmp_path: Path, settings: dict[str, str], param: str
) -> None:
    options = {"oidc_issuer": "https://login.example.com", "oidc_audience": "x", **settings}
    with pytest.raises(InvalidRequest) as error_info:
        async with api_server(tmp_path, roles=ROLES, **options):
            pass
    assert error_info.value.param == param


async def test_a_role_of_an_unknown_issuer_prevents_the_daemon_from_starting(tmp_path: Path) -> None:
    roles = (Role("all", ("chat",), issuer="https://login.example.com/"),)
    with pytest.raises(InvalidRequest, match=r"Did you mean 'https://login\.example\.com'"):
        async with api_server(
            tmp_path, roles=roles, oidc_issuer="https://login.example.com", oidc_audience="x"
        ):
            pass
