"""An issuer that is configured and turns hostile: it signs in nobody, breaks no answer and reaches nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.oidc_issuers import CLIENT, Issuer, issuing
from tests.server.api.auth.test_oidc import bearer, signing_in

DOCUMENT = "/.well-known/openid-configuration"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        yield issuer


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({"jwks_uri": None}, id="no keys"),
        pytest.param({"jwks_uri": 7}, id="keys at a number"),
        pytest.param({"jwks_uri": "file:///etc/passwd"}, id="keys in a file"),
        pytest.param({"jwks_uri": "http://[::1"}, id="keys at half an address"),
        pytest.param({"jwks_uri": "http://127.0.0.1:99999/keys"}, id="keys at a port that is none"),
        pytest.param({"jwks_uri": "http://169.254.169.254/latest"}, id="keys at the cloud's address"),
        pytest.param({"jwks_uri": "http://10.0.0.1/keys"}, id="keys in a private network"),
        pytest.param({"jwks_uri": "http://localhost:1/\r\nx: y"}, id="keys at two lines"),
        pytest.param({"issuer": "https://elsewhere.example.com"}, id="another issuer"),
        pytest.param({"issuer": ["https://elsewhere.example.com"]}, id="a list of issuers"),
    ],
)
async def test_tokens_are_refused_with_503_when_the_issuer_metadata_is_hostile(
    tmp_path: Path, issuer: Issuer, metadata: dict[str, Any]
) -> None:
    issuer.metadata = metadata
    async with signing_in(tmp_path, issuer.issuer) as daemon:
        answer = await daemon.client.get("/v1/models", headers=bearer(issuer.token(groups=["sales"])))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "issuer_unavailable")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param(DOCUMENT, b"", id="empty"),
        pytest.param(DOCUMENT, b"[]", id="a list"),
        pytest.param(DOCUMENT, b"[" * 500_000, id="deep"),
        pytest.param(DOCUMENT, b"{" + b" " * 2**21 + b"}", id="long"),
        pytest.param("/keys", b'{"keys": {}}', id="keys that are no list"),
        pytest.param("/keys", json.dumps({"keys": [{}] * 101}).encode(), id="too many keys"),
        pytest.param("/keys", b'{"keys": [' + b" " * 2**21 + b"]}", id="a long list"),
    ],
)
async def test_tokens_are_refused_with_503_when_an_issuer_response_body_is_hostile(
    tmp_path: Path, issuer: Issuer, path: str, body: bytes
) -> None:
    issuer.bodies[path] = body
    async with signing_in(tmp_path, issuer.issuer) as daemon:
        answer = await daemon.client.get("/v1/models", headers=bearer(issuer.token(groups=["sales"])))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "issuer_unavailable")


@pytest.mark.parametrize(
    "key",
    [
        pytest.param({"kty": "OKP", "crv": "Ed25519", "x": "AA"}, id="a short key"),
        pytest.param({"kty": "OKP", "crv": "Ed25519", "x": 7}, id="a key that is a number"),
        pytest.param({"kty": "OKP", "crv": "Ed25519"}, id="a key without its value"),
        pytest.param({"kty": "oct", "k": "AAAA"}, id="a secret"),
        pytest.param({"kty": ["OKP"], "crv": {}}, id="a key of no type"),
        pytest.param({"kty": "OKP", "crv": "Ed25519", "x": "A" * 500_000}, id="a long key"),
    ],
)
async def test_tokens_are_refused_with_401_when_the_issuer_publishes_a_hostile_key(
    tmp_path: Path, issuer: Issuer, key: dict[str, Any]
) -> None:
    issuer.bodies["/keys"] = json.dumps({"keys": [{**key, "kid": "one", "use": "sig"}]}).encode()
    async with signing_in(tmp_path, issuer.issuer) as daemon:
        answer = await daemon.client.get("/v1/models", headers=bearer(issuer.token(groups=["sales"])))
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_token")


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"iat": -(10**400)}, id="issued before all time"),
        pytest.param({"iat": -1e400}, id="issued never"),
        pytest.param({"exp": 1e400}, id="valid for ever"),
        pytest.param({"nbf": -(10**400)}, id="valid since ever"),
        pytest.param({"aud": [[CLIENT], {"a": CLIENT}, None, 7]}, id="for odd audiences"),
        pytest.param({"aud": {CLIENT: CLIENT}}, id="for an object"),
        pytest.param({"groups": {"sales": True}}, id="groups that are an object"),
        pytest.param({"groups": [["sales"], {"sales": 1}, None]}, id="groups of odd values"),
        pytest.param({"realm_access": "roles"}, id="a path through a text"),
        pytest.param({"preferred_username": ["Ada"], "email": {}, "name": 7}, id="odd names"),
        pytest.param({"preferred_username": "\u202eada\x00"}, id="a name that a terminal turns"),
    ],
)
async def test_hostile_claims_get_no_rights_and_break_nothing(
    tmp_path: Path, issuer: Issuer, claims: dict[str, Any]
) -> None:
    async with signing_in(tmp_path, issuer.issuer) as daemon:
        answer = await daemon.client.get("/v1/vector_stores", headers=bearer(issuer.token(**claims)))
        assert answer.status_code in (401, 403), answer.text


@pytest.mark.parametrize(
    "address",
    [
        None,
        7,
        "http://[::1",
        "http://127.0.0.1:99999/",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "http://10.0.0.1/authorize",
        "http://127.0.0.1/a\r\nSet-Cookie: a=b",
        "http://127.0.0.1/a\nx",
        "http://127.0.0.1/\u202e\ud7ff",
        "//evil.example.com",
    ],
)
async def test_a_hostile_address_for_signing_in_is_not_followed(
    tmp_path: Path, issuer: Issuer, address: object
) -> None:
    issuer.metadata = {"authorization_endpoint": address}
    async with signing_in(tmp_path, issuer.issuer, oidc_client_id=CLIENT) as daemon:
        answer = await daemon.client.post("/api/sign-in", json={}, headers={"sec-fetch-site": "same-origin"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "issuer_unavailable")
