"""Token issuers on this machine: a real provider in a separate process, and an issuer whose keys the test holds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa

PROGRAM = Path(__file__).with_name("oidc_provider.py")

CONFIDENTIAL, SECRET = "portico-confidential", "a-secret.of~its_own"
"""A client of the provider that has a secret."""

CLIENT = "portico-page"
"""The client whose tokens are intended for the daemon under test."""


@dataclass(frozen=True, slots=True)
class Provider:
    """The OpenID provider of the package oidc-provider-mock: any client and any user may sign in."""

    issuer: str

    def sign_in(self, subject: str, client: str = CLIENT, **more: str) -> dict[str, str]:
        """Return the parameters of the redirect to the browser once ``subject`` agrees: ``code`` and ``state``."""
        parameters = {
            "response_type": "code",
            "client_id": client,
            "redirect_uri": "http://127.0.0.1/",
            "scope": "openid profile email",
            **more,
        }
        answer = httpx.post(
            f"{self.issuer}/oauth2/authorize", params=parameters, data={"sub": subject}, timeout=60
        )
        response_query = parse_qs(urlsplit(answer.headers["location"]).query)
        return {name: values[0] for name, values in response_query.items()}

    def behave(self, **behaviour: Any) -> None:
        """Change the provider's behaviour; see `tests/oidc_provider.py`."""
        httpx.put(f"{self.issuer}/test", json=behaviour, timeout=60).raise_for_status()

    def forget(self, subject: str) -> None:
        """Revoke all tokens of a subject."""
        httpx.post(f"{self.issuer}/users/{subject}/revoke-tokens", timeout=60).raise_for_status()

    def seen(self) -> dict[str, Any]:
        """Return the requests that the provider received."""
        report: dict[str, Any] = httpx.get(f"{self.issuer}/test", timeout=60).json()
        return report

    def token(self, subject: str, client: str = CLIENT) -> str:
        """Return a new ID token of ``subject`` for a client."""
        form = {
            "grant_type": "authorization_code",
            "code": self.sign_in(subject, client)["code"],
            "redirect_uri": "http://127.0.0.1/",
            "client_id": client,
            "client_secret": "any",
        }
        answer = httpx.post(f"{self.issuer}/oauth2/token", data=form, timeout=60).raise_for_status().json()
        return str(answer["id_token"])


@contextmanager
def provider(users: Mapping[str, Mapping[str, Any]], life_s: int = 3_600) -> Iterator[Provider]:
    """Run a provider that knows the claims of ``users``, during a ``with`` block. Tokens last ``life_s``."""
    claims = [json.dumps({"sub": subject, **extra_claims}) for subject, extra_claims in users.items()]
    command = [sys.executable, "-P", "-W", "ignore", str(PROGRAM), "--port", "0"]
    command += ["--token-max-age", str(life_s)]
    command += [word for claim_text in claims for word in ("--user-claims", claim_text)]
    environment = {**os.environ, "NO_COLOR": "1", "OIDC_CLIENT": CONFIDENTIAL, "OIDC_SECRET": SECRET}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            words = ""
            for line in process.stderr:
                words += line
                if match := re.search(r"running on (http://\S+)", line):
                    # Nobody reads the rest of its output, and it must not block on a full pipe.
                    threading.Thread(target=process.stderr.read, daemon=True).start()
                    yield Provider(match[1])
                    break
            else:
                raise AssertionError(f"the provider does not start: {words[-4_000:]}")
        finally:
            process.kill()


@dataclass
class Issuer:
    """Publishes ``keys`` by their ids, unless it is ``down``. ``fetches`` counts the requests for them.

    ``metadata`` replaces fields of the issuer's document, and ``bodies`` replaces whole answers by their paths.
    """

    issuer: str
    keys: dict[str, Any] = field(default_factory=dict)
    down: bool = False
    fetches: int = 0
    calls_itself: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)

    def add(self, key_id: str, algorithm: str = "EdDSA") -> None:
        """Publish a new key."""
        if algorithm == "RS256":
            self.keys[key_id] = generate_rsa(65_537, 2_048)
        else:
            self.keys[key_id] = (
                Ed25519PrivateKey.generate() if algorithm == "EdDSA" else generate_private_key(SECP256R1())
            )

    def published(self) -> dict[str, Any]:
        """Return the key set in the format of RFC 7517."""
        public_keys = []
        for key_id, key in self.keys.items():
            name = {"Ed": "EdDSA", "EC": "ES256", "RS": "RS256"}[type(key).__name__.lstrip("_")[:2]]
            public = jwt.get_algorithm_by_name(name).to_jwk(key.public_key(), as_dict=True)
            public_keys.append({**public, "kid": key_id, "use": "sig", "alg": name})
        return {"keys": public_keys}

    def token(
        self,
        subject: str = "ada",
        *,
        key: str = "one",
        header: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """Return a token valid for an hour; a claim that is ``None`` is omitted."""
        current_time = int(time.time())
        standard = {
            "iss": self.issuer,
            "sub": subject,
            "aud": CLIENT,
            "iat": current_time,
            "exp": current_time + 3_600,
        }
        claim_values = {name: value for name, value in {**standard, **claims}.items() if value is not None}
        signing_key = self.keys[key]
        name = {"Ed": "EdDSA", "EC": "ES256", "RS": "RS256"}[type(signing_key).__name__.lstrip("_")[:2]]
        token_header = {"kid": key, **(header or {})}
        if token_header["kid"] is None:
            del token_header["kid"]
        return jwt.encode(claim_values, signing_key, algorithm=name, headers=token_header)


@contextmanager
def issuing() -> Iterator[Issuer]:
    """Run an issuer with one key, ``one``, during a ``with`` block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/keys":
                new_issuer.fetches += 1
            document = {
                "issuer": new_issuer.calls_itself or new_issuer.issuer,
                "jwks_uri": f"{new_issuer.issuer}/keys",
                **new_issuer.metadata,
            }
            body = json.dumps(new_issuer.published() if self.path == "/keys" else document).encode()
            body = new_issuer.bodies.get(self.path, body)
            self.send_response(500 if new_issuer.down else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: Any) -> None:
            """Print nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        new_issuer = Issuer(f"http://127.0.0.1:{server.server_address[1]}")
        new_issuer.add("one")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield new_issuer
        finally:
            server.shutdown()
            thread.join()
