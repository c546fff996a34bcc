"""Malicious answers of a daemon or an issuer, and a file of sign-ins that another program has changed."""

from __future__ import annotations

import base64
import gzip
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import portico
from portico import _issuer
from portico.cli.root import run
from portico.errors import InvalidRequest, PorticoError, Unauthenticated, Unavailable

METADATA = "/.well-known/oauth-protected-resource"
DISCOVERY = "/.well-known/openid-configuration"
CLIENT = "terminal"

Reply = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Stranger:
    """A daemon and an issuer in one, with answers that the test chooses."""

    url: str = ""
    replies: dict[str, Reply] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """The path and the Authorization header of each request."""

    def says(self, path: str, value: Any, status: int = 200, **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()

        def reply(request: BaseHTTPRequestHandler) -> None:
            request.send_response(status)
            for name, word in headers.items():
                request.send_header(name.replace("_", "-"), word)
            request.send_header("content-length", str(len(body)))
            request.end_headers()
            request.wfile.write(body)

        self.replies[path] = reply

    def streams(self, path: str, block: bytes, pause: threading.Event | None = None) -> None:
        """Answer endlessly: block by block, or slowly."""

        def reply(request: BaseHTTPRequestHandler) -> None:
            request.send_response(200)
            request.end_headers()
            while not (pause is not None and pause.wait(0.02)):
                request.wfile.write(block)

        self.replies[path] = reply

    def serve(self) -> None:
        """Behave as a correct daemon and issuer."""
        offer = {"issuer": self.url, "client_id": CLIENT, "terminal": True, "scope": "openid"}
        self.says(METADATA, {"resource": self.url, "portico_sign_in": [offer]})
        places = {
            "issuer": self.url,
            "token_endpoint": f"{self.url}/token",
            "device_authorization_endpoint": f"{self.url}/device",
            "revocation_endpoint": f"{self.url}/revoke",
        }
        self.says(DISCOVERY, places)
        self.says("/revoke", {})
        self.says("/device", self.device())
        self.says("/token", self.tokens())
        self.says(
            "/api/whoami",
            {"id": "user_1", "name": "Ada", "by": "token", "role": "staff", "issuer": "", "subject": ""},
        )

    def device(self, **changes: Any) -> dict[str, Any]:
        document = {
            "device_code": "d",
            "user_code": "ABCD",
            "verification_uri": f"{self.url}/go",
            "interval": 0,
        }
        return {**document, **changes}

    def tokens(self, refresh: str = "r", **changes: Any) -> dict[str, Any]:
        claims = {"iss": self.url, "aud": CLIENT, "sub": "ada", "exp": int(time.time()) + 3_600, **changes}
        part = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        return {"id_token": f"eyJh.{part}.c2ln", "refresh_token": refresh}

    def count(self, path: str) -> int:
        return sum(requested_path == path for requested_path, _ in self.asked)


@pytest.fixture
def strangers() -> Iterator[Callable[[], Stranger]]:
    servers = []

    def start() -> Stranger:
        new_stranger = Stranger()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                new_stranger.asked.append((self.path, self.headers.get("authorization", "")))
                reply = new_stranger.replies.get(self.path)
                try:
                    if reply is None:
                        self.send_error(404)
                    else:
                        reply(self)
                except OSError:
                    self.close_connection = True  # the client has disconnected

            do_POST = do_GET

            def log_message(self, *_words: Any) -> None:
                """Print nothing on the terminal."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        new_stranger.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        servers.append(server)
        new_stranger.serve()
        return new_stranger

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def stranger(strangers: Callable[[], Stranger], user: Path, monkeypatch: pytest.MonkeyPatch) -> Stranger:
    new_stranger = strangers()
    monkeypatch.setattr(_issuer, "MIN_DEVICE_INTERVAL_S", 0.01)
    monkeypatch.setenv("PORTICO_URL", new_stranger.url)
    return new_stranger


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of a user's file of sign-ins."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("PORTICO_API_KEY", raising=False)
    monkeypatch.delenv("BROWSER", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    return tmp_path / "portico" / "sign-ins.json"


def keep(stranger: Stranger, user: Path, **changes: Any) -> None:
    """Store a sign-in for a stranger."""
    current_time = time.time()
    row = {
        "issuer": stranger.url,
        "client_id": CLIENT,
        "subject": "ada",
        "given_at": current_time,
        "expires_at": current_time + 3_600,
    }
    row |= {"token": "eyJh.old.c2ln", "refresh_token": "r", **changes}
    user.parent.mkdir(exist_ok=True)
    user.touch(0o600)
    user.write_text(json.dumps({"sign_ins": {stranger.url: row}}))


def refused(capsys: pytest.CaptureFixture[str], words: str) -> None:
    capsys.readouterr()
    assert run(["login", "--json"]) == 1
    message = json.loads(capsys.readouterr().err.strip().splitlines()[-1])["error"]["message"]
    assert words in message and "\x1b" not in message, message


def test_sign_in_and_sign_out_succeed_with_a_conforming_issuer(stranger: Stranger, user: Path) -> None:
    assert run(["login"]) == 0 and run(["whoami"]) == 0 and run(["logout"]) == 0
    assert stranger.count("/revoke") == 1


@pytest.mark.parametrize(
    ("offer", "words"),
    [
        ({"issuer": "http://login.example.com"}, "https"),
        ({"issuer": "file:///etc/passwd"}, "https"),
        ({"issuer": "https://ada@login.example.com"}, "https"),
        ({"issuer": "https://login.example.com/\x1b[31m"}, "https"),
        ({"issuer": "https://[::1"}, "https"),
        ({"issuer": "https://" + "a" * 3_000}, "https"),
        ({"issuer": 7}, "https"),
        ({"client_id": ""}, "client id"),
        ({"client_id": "a\nb"}, "client id"),
        ({"scope": 'openid "x'}, "scopes"),
        ({"terminal": "yes"}, "oidc_cli_client_id"),
    ],
)
def test_invalid_sign_in_metadata_of_a_daemon_is_refused(
    stranger: Stranger, capsys: pytest.CaptureFixture[str], offer: dict[str, Any], words: str
) -> None:
    sign_in_offer = {
        "issuer": stranger.url,
        "client_id": CLIENT,
        "terminal": True,
        "scope": "openid",
        **offer,
    }
    stranger.says(METADATA, {"resource": stranger.url, "portico_sign_in": [sign_in_offer]})
    refused(capsys, words)
    assert stranger.count(DISCOVERY) == 0


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"[" * 100_000, gzip.compress(b" " * 10**6), b"\xff{}"]
)
@pytest.mark.parametrize("path", [METADATA, DISCOVERY])
def test_an_answer_that_is_not_an_object_is_an_error_in_plain_words(
    stranger: Stranger, capsys: pytest.CaptureFixture[str], path: str, body: bytes
) -> None:
    stranger.says(path, body, content_encoding="gzip" if body[:2] == b"\x1f\x8b" else "identity")
    refused(capsys, "identifies itself as" if path == DISCOVERY else "does not describe how")


@pytest.mark.parametrize("path", [METADATA, DISCOVERY, "/device", "/token"])
def test_redirects_are_not_followed_and_responses_are_limited_in_size_and_time(
    stranger: Stranger,
    strangers: Callable[[], Stranger],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    monkeypatch.setattr(_issuer, "MAX_LOST_ATTEMPTS", 1)
    second_stranger = strangers()
    stranger.says(path, {}, 307, location=f"{second_stranger.url}{path}")
    refused(capsys, "does not respond" if path == "/token" else "are not followed")
    assert second_stranger.asked == []
    stranger.streams(path, b" " * 65_536)
    refused(capsys, "does not respond" if path == "/token" else "exceeds 262,144 bytes")
    end_event = threading.Event()
    stranger.streams(path, b" ", end_event)
    original_reply = stranger.replies["/device"]

    def device(request: BaseHTTPRequestHandler) -> None:
        monkeypatch.setattr(_issuer, "ANSWER_TIMEOUT_S", 0.5)
        original_reply(request)

    if path == "/token":  # earlier requests get the time that they need
        stranger.replies["/device"] = device
    else:
        monkeypatch.setattr(_issuer, "ANSWER_TIMEOUT_S", 0.5)
    refused(capsys, "does not respond" if path == "/token" else "did not respond within")
    end_event.set()


@pytest.mark.parametrize(
    "changes",
    [
        {"verification_uri": "file:///etc/passwd"},
        {"verification_uri": "http://login.example.com/"},
        {"verification_uri": "https://x/\x1b]0;"},
        {"user_code": "\x1b[2J"},
        {"user_code": ""},
        {"device_code": 7},
    ],
)
def test_an_unsafe_device_code_response_is_refused_before_display(
    stranger: Stranger, capsys: pytest.CaptureFixture[str], changes: dict[str, Any]
) -> None:
    stranger.says("/device", stranger.device(**changes))
    refused(capsys, "no code and address")
    assert stranger.count("/token") == 0


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.example"},
        {"aud": "other"},
        {"aud": ["other"]},
        {"azp": "other"},
        {"sub": ""},
        {"sub": 7},
        {"exp": "soon"},
        {"exp": True},
        {"exp": 10**30},
    ],
)
def test_a_token_with_wrong_claims_is_neither_stored_nor_sent(
    stranger: Stranger, user: Path, capsys: pytest.CaptureFixture[str], claims: dict[str, Any]
) -> None:
    stranger.says("/token", stranger.tokens(**claims))
    refused(capsys, "token")
    assert not user.exists() and stranger.count("/api/whoami") == 0


@pytest.mark.parametrize(
    "tokens",
    [{}, {"id_token": "a.b"}, {"id_token": "a.b.c\r\nX: y"}, {"id_token": 7}, {"refresh_token": "a\nb"}],
)
def test_tokens_that_cannot_be_sent_are_refused(
    stranger: Stranger, user: Path, capsys: pytest.CaptureFixture[str], tokens: dict[str, Any]
) -> None:
    stranger.says("/token", {**(stranger.tokens() if "refresh_token" in tokens else {}), **tokens})
    refused(capsys, "token")
    assert not user.exists()


def test_a_daemon_without_tls_on_another_machine_gets_no_token(
    user: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--url", "http://192.0.2.1:8642", "login"]) == 1
    assert "does not use TLS" in capsys.readouterr().err


@pytest.mark.asyncio
async def test_a_token_goes_to_its_own_daemon_alone(
    stranger: Stranger, strangers: Callable[[], Stranger], user: Path
) -> None:
    keep(stranger, user)
    second_stranger = strangers()
    stranger.says("/api/whoami", {}, 307, location=f"{second_stranger.url}/api/whoami")
    with portico.Client(stranger.url) as client, pytest.raises(PorticoError):
        client.whoami()
    async with portico.AsyncClient(stranger.url) as client:
        with pytest.raises(PorticoError):
            await client.whoami()
    assert [authorization for _, authorization in stranger.asked] == ["Bearer eyJh.old.c2ln"] * 2
    with portico.Client(second_stranger.url) as client:
        client.whoami()
    assert second_stranger.asked == [("/api/whoami", "")]


@pytest.mark.asyncio
async def test_a_persistent_401_causes_one_token_renewal_and_one_retry(
    stranger: Stranger, user: Path
) -> None:
    keep(stranger, user, given_at=time.time() - 3_600)
    stranger.says("/api/whoami", {"error": {"message": "no", "type": "authentication_error"}}, 401)
    async with portico.AsyncClient(stranger.url) as client:
        for _ in range(3):
            with pytest.raises(Unauthenticated):
                await client.whoami()
    assert stranger.count("/token") == 1 and stranger.count("/api/whoami") == 4


def test_a_clock_that_is_fast_does_not_renew_at_each_call(stranger: Stranger, user: Path) -> None:
    stranger.says("/token", stranger.tokens(exp=int(time.time()) - 3_600))
    assert run(["login"]) == 0
    assert [run(["whoami"]) for _ in range(3)] == [0, 0, 0]
    assert stranger.count("/token") == 1 and "Bearer" in stranger.asked[-1][1]


def test_somebody_else_s_token_ends_a_sign_in(stranger: Stranger, user: Path) -> None:
    keep(stranger, user, expires_at=time.time() + 1, given_at=time.time() - 3_600)
    stranger.says("/token", stranger.tokens(sub="mallory"))
    stranger.says("/api/whoami", {"error": {"message": "no"}}, 401)
    with portico.Client(stranger.url) as client, pytest.raises(Unauthenticated, match="has ended"):
        client.whoami()
    assert json.loads(user.read_text()) == {"sign_ins": {}}


def test_a_changed_issuer_receives_no_refresh_token(stranger: Stranger, user: Path) -> None:
    keep(stranger, user, expires_at=time.time() - 1, given_at=time.time() - 3_600)
    stranger.says(DISCOVERY, {"issuer": "https://other.example", "token_endpoint": f"{stranger.url}/token"})
    stranger.says("/api/whoami", {"error": {"message": "no"}}, 401)
    with portico.Client(stranger.url) as client, pytest.raises(Unavailable):
        client.whoami()
    assert stranger.count("/token") == 0


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"sign_ins": {"a": 1}}', '{"sign_ins": {"a": {"x": 1}}}', "[" * 10**5]
)
def test_an_invalid_sign_in_file_is_reported(stranger: Stranger, user: Path, content: str) -> None:
    keep(stranger, user)
    user.write_text(content)
    stranger.says("/api/whoami", {"error": {"message": "no"}}, 401)
    with (
        portico.Client(stranger.url) as client,
        pytest.raises(InvalidRequest, match="does not contain sign-ins"),
    ):
        client.whoami()


def test_a_sign_in_file_that_is_not_private_to_the_user_is_refused(stranger: Stranger, user: Path) -> None:
    stranger.says("/api/whoami", {"error": {"message": "no"}}, 401)
    user.parent.mkdir()
    os.mkfifo(user, 0o600)
    with (
        portico.Client(stranger.url) as client,
        pytest.raises(InvalidRequest, match="does not belong to you"),
    ):
        client.whoami()
    user.unlink()
    keep(stranger, user)
    user.chmod(0o640)
    with portico.Client(stranger.url) as client, pytest.raises(InvalidRequest, match="chmod 600"):
        client.whoami()
    (user.parent / "sign-ins.lock").symlink_to(user)
    assert run(["logout"]) == 1 and "sign_ins" in user.read_text()


def test_device_polling_slows_down_on_slow_down_or_lost_responses() -> None:
    assert _issuer.next_interval(5.0, "authorization_pending") == 5.0
    assert _issuer.next_interval(5.0, "slow_down") == 10.0
    assert _issuer.next_interval(5.0, None, is_lost=True) == 10.0
    assert _issuer.next_interval(59.0, "slow_down") == 60.0
