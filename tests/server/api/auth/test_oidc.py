"""Sign-in through an OpenID Connect issuer: the tokens accepted, at every protocol adapter, and what they allow."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.api_server import ApiServer, RelayModel, api_server
from tests.oidc_issuers import CLIENT, Issuer, Provider, issuing, provider
from websockets.asyncio.client import connect

from portico_server.api import calls
from portico_server.api.auth import client_secrets, identities
from portico_server.api.auth.oidc import MAX_FETCHES, TokenVerifier
from portico_server.api.auth.service import Auth
from portico_server.core.errors import Forbidden, InvalidRequest, TooMany, Unauthenticated
from portico_server.core.limits import KeyLimits
from portico_server.core.roles import Role, role_of
from portico_server.db import keys, usage
from portico_server.db.usage import UsageRow
from portico_server.http.fetch.fetcher import OutwardFetcher
from portico_server.http.fetch.policy import AddressPolicy
from portico_server.runs.quotas import Quotas
from portico_server.settings import load

LIMIT = 60
ROLES = (
    Role("operators", ("admin",), "groups", ("operators",)),
    Role("sales", ("chat", "models:read", "stores:*:write", "tools:*:call"), "groups", ("sales",)),
    Role(
        "guests", ("models:read",), "realm_access.roles", ("guest",), limits=KeyLimits(requests_per_minute=3)
    ),
)
ADMIN = "pk-of-the-operator"


@pytest.fixture(scope="module")
def real() -> Iterator[Provider]:
    users = {
        "ada": {"groups": ["staff", "sales"], "preferred_username": "Ada"},
        "bob": {"groups": ["cleaning"]},
    }
    with provider(users) as opened_provider:
        yield opened_provider


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as opened_issuer:
        yield opened_issuer


@asynccontextmanager
async def signing_in(folder: Path, issuer: str, **settings: Any) -> AsyncIterator[ApiServer]:
    """A daemon that accepts tokens of an issuer on this machine."""
    oidc_settings = {"oidc_audience": CLIENT, "oidc_hosts": "127.0.0.1", "api_key": ADMIN, **settings}
    async with api_server(folder, roles=ROLES, oidc_issuer=issuer, **oidc_settings) as server:
        yield server


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.slow
async def test_a_token_of_a_real_provider_is_accepted_wherever_a_key_is(
    tmp_path: Path, real: Provider
) -> None:
    async with signing_in(tmp_path, real.issuer) as daemon:
        daemon.add(RelayModel("teller", b"{}"))
        ada, bob, elsewhere = real.token("ada"), real.token("bob"), real.token("ada", client="another-app")
        for path, header in [
            ("/v1/models", bearer(ada)),
            ("/v1/models", {"x-api-key": ada, "anthropic-version": "2023-06-01"}),
            ("/api/tags", bearer(ada)),
            ("/api/tools", bearer(ada)),
        ]:
            assert (await daemon.client.get(path, headers=header)).status_code == 200, (path, header)
        initialize_params = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        }
        ask = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": initialize_params}
        accept_header = {"accept": "application/json, text/event-stream"}
        assert (
            await daemon.client.post("/mcp", json=ask, headers=bearer(ada) | accept_header)
        ).status_code == 200
        address = daemon.url.replace("http", "ws", 1) + "/v1/responses"
        async with connect(address, subprotocols=[f"openai-insecure-api-key.{ada}"]):  # type: ignore[list-item]
            pass

        response = await daemon.client.get("/v1/models", headers=bearer(bob))
        assert response.status_code == 403 and response.json()["error"]["code"] == "no_role"
        response = await daemon.client.get("/v1/models", headers=bearer(elsewhere))
        assert response.status_code == 401 and "audience" in response.json()["error"]["message"]
        assert (await daemon.client.get("/openapi.json", headers=bearer(elsewhere))).status_code == 200

        metadata = (await daemon.client.get("/.well-known/oauth-protected-resource/mcp")).json()
        assert metadata["authorization_servers"] == [real.issuer]
        assert metadata["scopes_supported"] == ["openid", "profile", "email"]
        for headers, challenge_part in (({}, "Bearer realm"), (bearer(elsewhere), 'error="invalid_token"')):
            answer = await daemon.client.post("/mcp", json=ask, headers=headers | accept_header)
            challenge = answer.headers["www-authenticate"]
            assert answer.status_code == 401 and challenge_part in challenge
            assert (
                'scope="openid profile email"' in challenge and "/oauth-protected-resource/mcp" in challenge
            )

        (key_entry,) = (await daemon.client.get("/api/keys", headers=bearer(ADMIN))).json()["data"]
        assert (key_entry["issuer"], key_entry["subject"], key_entry["name"]) == (real.issuer, "ada", "Ada")
        assert key_entry["scopes"] == list(ROLES[1].scopes) and key_entry["signed_in_at"] > 0
        assert (await daemon.client.get("/api/keys", headers=bearer(ada))).status_code == 403
        rescoped = await daemon.client.patch(
            f"/api/keys/{key_entry['id']}", json={"scopes": ["admin"]}, headers=bearer(ADMIN)
        )
        assert rescoped.status_code == 409 and "role" in rescoped.json()["error"]["message"]
    logs = "".join(path.read_text() for path in (tmp_path / "logs").rglob("*") if path.is_file())
    assert ada not in logs and ada.rpartition(".")[2] not in logs


async def rest(answer: httpx.Response) -> str:
    """Return the remainder of an answer until the connection breaks."""
    text = ""
    with suppress(httpx.RemoteProtocolError):
        async for piece in answer.aiter_text():
            text += piece
    return text


def _unsigned(token: str, header: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    head = urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=")
    signed = head + b"." + token.split(".")[1].encode()
    return (signed + b"." + urlsafe_b64encode(sign(signed)).rstrip(b"=")).decode()


async def test_a_token_with_any_single_defect_is_refused(tmp_path: Path, issuer: Issuer) -> None:
    issuer.add("rsa", "RS256")
    issuer.add("curve", "ES256")
    issuer.add("another")
    current_time = int(time.time())
    public = issuer.keys["rsa"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    right = issuer.token(key="rsa", groups=["sales"])
    nested: Any = "x"
    for _ in range(300):
        nested = [nested]
    wrong = {
        "of another issuer": issuer.token(iss="https://elsewhere.example.com"),
        "of no issuer": issuer.token(iss=None),
        "for another audience": issuer.token(aud=["another", f"{CLIENT}-more"]),
        "for no audience": issuer.token(aud=None),
        "without a subject": issuer.token(sub=None),
        "with a subject that is too long": issuer.token("a" * 256),
        "with a subject that is no text": issuer.token(sub=5),
        "with a subject that a terminal obeys": issuer.token("ada\x1b[2J"),
        "with a subject that PostgreSQL does not keep": issuer.token("ada\0"),
        "without an end": issuer.token(exp=None),
        "with an end that is no number": issuer.token(exp="soon"),
        "expired": issuer.token(exp=current_time - 3_600),
        "not valid yet": issuer.token(nbf=current_time + 3_600),
        "issued in the future": issuer.token(iat=current_time + 3_600),
        "of a logout": issuer.token(header={"typ": "logout+jwt"}),
        "with a critical header": issuer.token(header={"crit": ["exp"]}),
        "unsigned": _unsigned(right, {"alg": "none", "typ": "JWT"}, lambda _: b""),
        "signed with the public key": _unsigned(
            right, {"alg": "HS256", "kid": "rsa"}, lambda signed: hmac.digest(public, signed, sha256)
        ),
        "of another algorithm than its key": _unsigned(
            right, {"alg": "PS256", "kid": "rsa"}, lambda _: b"x" * 256
        ),
        "with another signature": f"{right.rpartition('.')[0]}.{issuer.token(key='rsa').rpartition('.')[2]}",
        "with a key that it brings": issuer.token(
            header={"kid": "mine", "jwk": issuer.published()["keys"][0]}
        ),
        "without a key where there are several": issuer.token(header={"kid": None}),
        "with a header that is none": "eyJ.eyJ9.x",
        "with a list for a header": f"eyJ{urlsafe_b64encode(b'[]').decode()}.e30.x",
        "huge": issuer.token(groups=["g" * 30_000]),
        "nested": issuer.token(groups=nested)[:-5] + "AAAAA",
    }
    async with signing_in(tmp_path, issuer.issuer) as daemon:
        for name, token in wrong.items():
            answer = await daemon.client.get("/v1/models", headers=bearer(token))
            code = "token_expired" if name == "expired" else "invalid_token"
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, code), (name, answer.text)
            assert token.split(".")[1] not in answer.text, name
        assert daemon.auth.keys.list() == []
        rights = [
            right,
            issuer.token(key="curve", groups=["sales"], aud=["another", CLIENT]),
            issuer.token(groups=["sales"], nested=nested, exp=10**12),
            issuer.token(groups=["sales"], iat=None, header={"typ": "at+jwt"}),
            issuer.token(groups=["sales"], exp=current_time - 5),  # within the leeway
        ]
        for token in rights:
            answer = await daemon.client.get("/v1/models", headers=bearer(token))
            assert answer.status_code == 200, answer.text


async def test_issuer_key_fetches_are_limited_and_cached_keys_outlast_an_outage(
    tmp_path: Path, issuer: Issuer
) -> None:
    issuer.down = True
    async with signing_in(tmp_path, issuer.issuer) as daemon:

        async def get(token: str) -> httpx.Response:
            return await daemon.client.get("/v1/models", headers=bearer(token))

        answer = await get(issuer.token(groups=["sales"]))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "issuer_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        issuer.down, issuer.calls_itself = False, "https://elsewhere.example.com"
        assert (await get(issuer.token(groups=["sales"]))).status_code == 503
        assert issuer.fetches == 0
        issuer.calls_itself = ""
        assert (await get(issuer.token(groups=["sales"]))).status_code == 200
        issuer.add("two")
        assert (await get(issuer.token(key="two", groups=["sales"]))).status_code == 200
        assert issuer.fetches == 2
        flood = [get(issuer.token(header={"kid": f"unknown-{number}"})) for number in range(30)]
        assert {answer.status_code for answer in await asyncio.gather(*flood)} == {401}
        assert issuer.fetches <= MAX_FETCHES
        issuer.down = True
        assert (await get(issuer.token(key="two", groups=["sales"], jti="new"))).status_code == 200


async def test_issuer_keys_are_refetched_after_a_time_and_stay_cached_during_an_outage(
    issuer: Issuer,
) -> None:
    clock_time = 0.0
    configuration = load(flags={"oidc_issuer": issuer.issuer, "oidc_audience": CLIENT}, environment={})
    verifier = TokenVerifier(
        configuration.settings, OutwardFetcher(AddressPolicy.of("127.0.0.1")), now=lambda: clock_time
    )
    keys = verifier.issuers[issuer.issuer]
    await verifier.verify(issuer.token())
    await verifier.verify(issuer.token(jti="another"))
    assert issuer.fetches == 1
    withdrawn = issuer.token(jti="signed before")
    del issuer.keys["one"]
    issuer.add("two")
    await verifier.verify(withdrawn)
    clock_time = 4_000.0
    with pytest.raises(Exception, match="does not publish"):
        await verifier.verify(withdrawn)
    issuer.down, clock_time = True, 8_000.0
    await verifier.verify(issuer.token(key="two"))  # cached keys remain
    with pytest.raises(Exception, match="cannot be fetched"):
        await keys.find("three", "EdDSA")


async def test_objects_and_limits_belong_to_the_subject_whichever_token_is_used(
    tmp_path: Path, issuer: Issuer
) -> None:
    async with signing_in(tmp_path, issuer.issuer) as daemon:
        _, key = await daemon.auth.create("friend", ["chat", "stores:*:write"])
        ada, again = issuer.token(groups=["sales"]), issuer.token(groups=["sales"], jti="another")
        bob = issuer.token("bob", groups=["sales"])
        files = {"file": ("plan.txt", b"Sail at noon.", "text/plain")}
        upload = await daemon.client.post(
            "/v1/files", files=files, data={"purpose": "assistants"}, headers=bearer(ada)
        )
        path = f"/v1/files/{upload.json()['id']}"
        responses = {
            credential: await daemon.client.get(path, headers=bearer(credential))
            for credential in (ada, again, bob, key, ADMIN)
        }
        assert [answer.status_code for answer in responses.values()] == [200, 200, 404, 404, 200]
        byte_counts = {
            row["subject"]: row["stored_bytes"]
            for row in (await daemon.client.get("/api/keys", headers=bearer(ADMIN))).json()["data"]
        }
        assert byte_counts == {"": 0, "ada": len(b"Sail at noon."), "bob": 0}

        # A limit applies to the subject: every token of the subject spends it, and another subject has its
        # own.
        daemon.add(RelayModel("teller", b"{}"))
        roles = {"realm_access": {"roles": ["guest"]}}
        ask = {"model": "teller", "messages": [{"role": "user", "content": "Hello"}]}
        statuses = []
        for number in range(5):
            token = issuer.token("guest", jti=str(number), **roles)
            answer = await daemon.client.get("/v1/models", headers=bearer(token))
            statuses.append(answer.headers["x-ratelimit-limit-requests"])
            assert (
                await daemon.client.post("/v1/chat/completions", json=ask, headers=bearer(token))
            ).status_code == 403
        assert statuses == ["3"] * 5


async def test_a_revoked_subject_is_refused_on_every_daemon_with_any_token(
    tmp_path: Path, issuer: Issuer
) -> None:
    async with signing_in(tmp_path, issuer.issuer) as daemon:
        model = RelayModel("teller", b'data: {"choices":[]}\n\n', hold=asyncio.Event())
        daemon.add(model)
        token = issuer.token(groups=["sales"])
        daemon_settings = daemon.services.loaded.settings
        second_auth = Auth(
            daemon.services.database,
            daemon_settings,
            Quotas(),
            TokenVerifier(daemon_settings, OutwardFetcher(AddressPolicy.of("127.0.0.1"))),
        )
        await second_auth.start((), ROLES)
        ended_keys: list[str] = []

        async def end(key: str) -> None:
            ended_keys.append(key)

        second_auth.revoked.append(end)
        ask = {"model": "teller", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
        async with (
            asyncio.timeout(LIMIT),
            daemon.client.stream("POST", "/v1/chat/completions", json=ask, headers=bearer(token)) as answer,
        ):
            await model.began.wait()
            identity = await second_auth.identities.sign_in(token)
            await second_auth.refresh()
            deletion = await daemon.client.delete(f"/api/keys/{identity.caller.id}", headers=bearer(ADMIN))
            assert deletion.status_code == 200
            assert "key_revoked" in await rest(answer)
        await second_auth.refresh()
        assert ended_keys == [identity.caller.id]
        for newer in (token, issuer.token(groups=["sales"], jti="new")):
            response = await daemon.client.get("/v1/models", headers=bearer(newer))
            assert (response.status_code, response.json()["error"]["code"]) == (403, "key_revoked")
            with pytest.raises(Forbidden):
                await second_auth.identities.sign_in(newer)
        assert (await daemon.client.get("/api/keys", headers=bearer(ADMIN))).json()["data"] == []


async def test_a_stream_ends_with_its_token(
    tmp_path: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "MAX_TIMER_S", 0.01)
    later = 0.0
    clock = SimpleNamespace(time=lambda: time.time() + later, monotonic=time.monotonic)
    monkeypatch.setattr(calls, "time", clock)
    async with signing_in(tmp_path, issuer.issuer) as daemon:
        model = RelayModel("teller", b'data: {"choices":[]}\n\n', hold=asyncio.Event())
        daemon.add(model)
        ask = {"model": "teller", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
        token = issuer.token(groups=["sales"])
        async with (
            asyncio.timeout(LIMIT),
            daemon.client.stream("POST", "/v1/chat/completions", json=ask, headers=bearer(token)) as answer,
        ):
            await model.began.wait()
            later = 7_200.0
            assert "token_expired" in await rest(answer)
            await model.left.wait()


async def test_background_work_has_the_permissions_of_the_newest_token(
    tmp_path: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    current_time = int(time.time())
    async with signing_in(tmp_path, issuer.issuer) as daemon:
        signed = [
            (
                await daemon.auth.identities.sign_in(issuer.token(groups=[group], iat=current_time - age))
            ).caller
            for group, age in (("sales", 30), ("operators", 20), ("sales", 25))
        ]
        assert [caller.admin for caller in signed] == [
            False,
            True,
            False,
        ]  # each call has the permissions of its token
        (owner,) = {caller.id for caller in signed}
        assert daemon.auth.keys.principal(owner).admin
        with pytest.raises(Forbidden, match="have none of this daemon's roles"):
            await daemon.auth.identities.sign_in(issuer.token(groups=[], iat=current_time - 10))
        assert daemon.auth.keys.principal(owner).scopes == frozenset()
        monkeypatch.setattr(identities, "MAX_TOKENS", 2)
        for number in range(4):
            await daemon.auth.identities.sign_in(issuer.token(groups=["sales"], jti=str(number)))
        assert len(daemon.auth.identities._signed_in) <= 3


async def test_the_groups_claim_of_a_token_sets_the_groups_of_its_caller(
    tmp_path: Path, issuer: Issuer
) -> None:
    current_time = int(time.time())
    claims: list[tuple[Any, set[str]]] = [
        (["sales", "finance"], {"sales", "finance"}),
        ("sales", {"sales"}),
        (["sales", 5, None, "", "a\0", "x" * 300], {"sales"}),
    ]
    async with signing_in(tmp_path, issuer.issuer) as daemon:
        for age, (claim, groups) in enumerate(reversed(claims)):
            identity = await daemon.auth.identities.sign_in(
                issuer.token(groups=claim, iat=current_time - 30 + age)
            )
            assert identity.caller.groups == groups
        assert daemon.auth.keys.principal(identity.caller.id).groups == {"sales", "finance"}
        await daemon.auth.identities.sign_in(issuer.token(groups=["sales"], iat=current_time))
        assert daemon.auth.keys.principal(identity.caller.id).groups == {"sales"}


async def test_a_client_secret_never_exceeds_the_rights_or_lifetime_of_its_token(
    tmp_path: Path, issuer: Issuer
) -> None:
    current_time = int(time.time())
    path = "/v1/realtime/client_secrets"
    async with signing_in(tmp_path, issuer.issuer) as daemon:
        daemon.add(RelayModel("teller"))

        async def made(group: str, age: int) -> str:
            token = issuer.token(groups=[group], iat=current_time - age, exp=current_time + 60)
            session = {"type": "realtime", "model": "teller"}
            answer = await daemon.client.post(path, json={"session": session}, headers=bearer(token))
            assert answer.json()["expires_at"] <= current_time + 60 + 30  # the clocks may differ by that much
            secret: str = answer.json()["value"]
            return secret

        seller = await made("sales", 30)
        caller, _session, until = client_secrets.open_secret(daemon.auth, seller)
        assert not caller.admin and until == current_time + 60 + 30
        operator = await made("operators", 20)
        assert client_secrets.open_secret(daemon.auth, operator)[0].admin
        for secret in (seller, await made("sales", 25)):
            with pytest.raises(Unauthenticated, match=r"The rights of .* have changed"):
                client_secrets.open_secret(daemon.auth, secret)


async def test_earlier_usage_of_a_subject_still_counts_after_losing_and_regaining_a_role(
    tmp_path: Path, issuer: Issuer
) -> None:
    current_time = int(time.time())
    guest = {"realm_access": {"roles": ["guest"]}}
    async with signing_in(tmp_path, issuer.issuer) as daemon:
        caller = (await daemon.auth.identities.sign_in(issuer.token(iat=current_time - 30, **guest))).caller
        usage_row = UsageRow("run_1", caller.id, "echo", "chat", "completed", None, time.time(), 1.0, None)
        await daemon.services.database.write(usage.append, [usage_row] * 3)
        with pytest.raises(Forbidden, match="have none of this daemon's roles"):
            await daemon.auth.identities.sign_in(issuer.token(groups=[], iat=current_time - 20))
        assert daemon.auth.keys._quotas.of(caller.id) is None
        await daemon.auth.identities.sign_in(issuer.token(iat=current_time - 10, **guest))
        meter = daemon.auth.keys._quotas.of(caller.id)
        assert meter is not None
        with pytest.raises(TooMany, match="requests per minute"):
            await meter.enter()


async def test_scopes_narrowed_by_an_admin_during_a_refresh_are_not_overwritten(
    tmp_path: Path, issuer: Issuer
) -> None:
    async with signing_in(tmp_path, issuer.issuer) as daemon:
        first, _ = await daemon.auth.create("first", ["admin"])
        second, _ = await daemon.auth.create("second", ["admin"])
        for row in (first, second):  # as another daemon does
            await daemon.services.database.write(keys.change, row.id, ["chat", "models:read"])

        async def end(key_id: str) -> None:
            if key_id == first.id:
                await daemon.auth.change(second.id, scopes=["chat"])

        daemon.auth.revoked.append(end)
        await daemon.auth.refresh()
        assert daemon.auth.keys.principal(second.id).scopes == {"chat"}


def test_the_first_role_that_matches_the_claims_applies() -> None:
    everybody = Role("everybody", ("chat",))
    numbered = Role("numbered", ("chat",), "level", (3, True))
    url = Role("namespaced", ("chat",), "https://example.com/groups", ("a", "b"), issuer="https://one")
    worded = Role("worded", ("chat",), "scope", ("portico.chat",))
    assert role_of((*ROLES, everybody), "https://one", {"groups": "sales"}) is ROLES[1]
    assert role_of((*ROLES, everybody), "https://one", {"groups": {"sales": 1}}) is everybody
    assert role_of(ROLES, "https://one", {"realm_access": {"roles": ["guest"]}}) is ROLES[2]
    assert role_of(ROLES, "https://one", {"realm_access": ["roles"], "groups": None}) is None
    for claims, matching_role in [
        ({"level": 3}, numbered),
        ({"level": "3"}, None),
        ({"level": 1}, None),
        ({"level": 3.0}, None),
    ]:
        assert role_of((numbered,), "https://one", claims) is matching_role
    assert role_of((url,), "https://one", {"https://example.com/groups": ["b"]}) is url
    assert role_of((url,), "https://two", {"https://example.com/groups": ["b"]}) is None
    assert role_of((worded,), "https://one", {"scope": "openid portico.chat"}) is worded
    assert role_of((Role("team", ("chat",), "team", ("a",)),), "https://one", {"team": "a b"}) is None


@pytest.mark.parametrize(
    ("settings", "roles", "param"),
    [
        ({"oidc_issuer": "https://login.example.com"}, ROLES, "oidc_audience"),
        ({"oidc_issuer": "http://login.example.com", "oidc_audience": "x"}, ROLES, "oidc_issuer"),
        ({"oidc_issuer": "https://127.0.0.1:1", "oidc_audience": "x"}, ROLES, "oidc_issuer"),
        (
            {"oidc_issuer": "https://login.example.com", "public_url": "https://portico.example.com"},
            (),
            "roles",
        ),
        (
            {"oidc_issuer": "https://a.example.com", "oidc_audience": "x", "oidc_algorithms": "HS256"},
            ROLES,
            "oidc_algorithms",
        ),
        ({}, ROLES, "oidc_issuer"),
    ],
)
async def test_incomplete_or_insecure_issuer_settings_prevent_the_daemon_from_starting(
    tmp_path: Path, settings: dict[str, str], roles: tuple[Role, ...], param: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        async with api_server(tmp_path, roles=roles, **settings):
            pass
    assert caught.value.param == param


def test_an_audience_url_also_covers_the_mcp_paths_below_it() -> None:
    configuration = load(
        flags={"oidc_audience": "api://portico,https://portico.example.com", "oidc_issuer": "https://one"},
        environment={},
    )
    ours = TokenVerifier(configuration.settings, OutwardFetcher(AddressPolicy.of("")))._is_ours
    for audience, is_own_audience in {
        "api://portico": True,
        "api://portico/mcp": False,
        "https://portico.example.com/": True,
        "https://portico.example.com/mcp": True,
        "https://portico.example.com/mcp/stores/docs": True,
        "https://portico.example.com/mcpx": False,
        "https://portico.example.com.evil.example": False,
        "": False,
    }.items():
        assert ours(audience) is is_own_audience, audience
