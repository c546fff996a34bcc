"""The client of a request behind proxies: what trusted proxies report, and what others try to pretend."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import daemon as daemons
from tests import proxies
from tests.api_server import api_server
from tests.daemon import Daemon
from tests.server.http.test_connections import HEALTH, KEY, Wire, served, turn, wire

from portico_server.api import exchange
from portico_server.core.errors import InvalidRequest
from portico_server.db import oauth_clients
from portico_server.http.forwarded import RequestOrigin, TrustedProxies
from portico_server.http.proxy_protocol import (
    BINARY_START,
    MAX_TEXT_BYTES,
    NO_HEADER,
    ProxyHeader,
    read_header,
)

TRUSTED = "127.0.0.1, 10.0.0.0/8, 2001:db8::/32, unix"
PEER = "127.0.0.1"
CLIENT = "198.51.100.7"
LIAR = "203.0.113.9"


def origin(client: str = CLIENT, scheme: str = "", host: str = "", prefix: str = "") -> RequestOrigin:
    return RequestOrigin(client, scheme, host, prefix)


CASES: dict[str, tuple[list[tuple[str, str]], RequestOrigin | None]] = {
    "nothing": ([], None),
    "headers of no proxy": ([("x-real-ip", LIAR), ("true-client-ip", LIAR), ("client-ip", LIAR)], None),
    "one proxy": ([("x-forwarded-for", CLIENT)], origin()),
    "a client that sends an address itself": ([("x-forwarded-for", f"{LIAR}, {CLIENT}")], origin()),
    "a client that pretends to be this machine": ([("x-forwarded-for", f"127.0.0.1, {CLIENT}")], origin()),
    "a client that pretends to be a trusted proxy": (
        [("x-forwarded-for", f"{LIAR}, 10.0.0.9, {CLIENT}")],
        origin(),
    ),
    "two trusted proxies": ([("x-forwarded-for", f"{LIAR}, {CLIENT}, 10.1.2.3")], origin()),
    "a proxy that nobody trusts": (
        [("x-forwarded-for", f"{LIAR}, {CLIENT}, 192.0.2.1")],
        origin("192.0.2.1"),
    ),
    "only trusted addresses": ([("x-forwarded-for", "10.0.0.1, 10.0.0.2")], origin("10.0.0.1")),
    "two headers": ([("x-forwarded-for", LIAR), ("x-forwarded-for", CLIENT)], origin()),
    "two headers, the last of a trusted proxy": (
        [("x-forwarded-for", CLIENT), ("x-forwarded-for", "10.0.0.1")],
        origin(),
    ),
    "a name for an address": ([("x-forwarded-for", f"{LIAR}, localhost")], origin(PEER)),
    "an unknown address": ([("x-forwarded-for", f"{LIAR}, unknown, 10.0.0.1")], origin("10.0.0.1")),
    "an empty entry": ([("x-forwarded-for", f"{LIAR}, ")], origin(PEER)),
    "an empty header": ([("x-forwarded-for", "")], origin(PEER)),
    "a script": ([("x-forwarded-for", '}__test|O:21:"JDatabase"')], origin(PEER)),
    "a number": ([("x-forwarded-for", "2130706433")], origin(PEER)),
    "an octal address": ([("x-forwarded-for", "0177.0.0.1")], origin(PEER)),
    "a port": ([("x-forwarded-for", f"{CLIENT}:4711, 10.0.0.1:80")], origin()),
    "brackets and a port": ([("x-forwarded-for", "[2a00::7]:4711, [2001:db8::1]:80")], origin("2a00::7")),
    "an address with a zone": ([("x-forwarded-for", "fe80::1%eth0")], origin("fe80::1")),
    "a trusted address mapped to IPv6": ([("x-forwarded-for", f"{CLIENT}, ::ffff:10.0.0.1")], origin()),
    "a client mapped to IPv6": ([("x-forwarded-for", f"{LIAR}, ::ffff:{CLIENT}")], origin()),
    "a thousand addresses": ([("x-forwarded-for", f"{LIAR}, " * 1000 + CLIENT)], origin()),
    "scheme and host": (
        [("x-forwarded-for", CLIENT), ("x-forwarded-proto", "https"), ("x-forwarded-host", "a.example")],
        origin(scheme="https", host="a.example"),
    ),
    "a scheme and a host without an address": (
        [("x-forwarded-proto", "https"), ("x-forwarded-host", "a.example:8443")],
        origin(PEER, "https", "a.example:8443"),
    ),
    "lists of one length": (
        [
            ("x-forwarded-for", f"{LIAR}, {CLIENT}, 10.0.0.1"),
            ("x-forwarded-proto", "http, https, http"),
            ("x-forwarded-host", "evil.example, a.example, inner"),
        ],
        origin(scheme="https", host="a.example"),
    ),
    "a host that the client sent before": (
        [("x-forwarded-for", CLIENT), ("x-forwarded-host", "evil.example, a.example")],
        origin(host="a.example"),
    ),
    "a scheme that the client sent before": (
        [("x-forwarded-for", CLIENT), ("x-forwarded-proto", "http"), ("x-forwarded-proto", "https")],
        origin(scheme="https"),
    ),
    "a scheme of a WebSocket": ([("x-forwarded-proto", "WSS")], origin(PEER, "https")),
    "an impossible scheme": ([("x-forwarded-proto", "javascript")], origin(PEER)),
    "a host with a path": ([("x-forwarded-host", "a.example/x?")], origin(PEER)),
    "a host with a user": ([("x-forwarded-host", "a.example@evil.example")], origin(PEER)),
    "a host with a line break": ([("x-forwarded-host", "a.example\r\nx: y")], origin(PEER)),
    "a host of IPv6": ([("x-forwarded-host", "[2001:db8::5]:80")], origin(PEER, host="[2001:db8::5]:80")),
    "a prefix": ([("x-forwarded-prefix", "/portico/")], origin(PEER, prefix="/portico")),
    "a prefix of a second proxy": (
        [("x-forwarded-prefix", "/evil, /tools/ai")],
        origin(PEER, prefix="/tools/ai"),
    ),
    "a prefix that is another host": ([("x-forwarded-prefix", "//evil.example")], origin(PEER)),
    "a prefix that leads upwards": ([("x-forwarded-prefix", "/a/../../b")], origin(PEER)),
    "a prefix with encoded dots": ([("x-forwarded-prefix", "/%2e%2e/b")], origin(PEER)),
    "a prefix with a query": ([("x-forwarded-prefix", "/a?b")], origin(PEER)),
    "a standard header": (
        [("forwarded", f'for="{CLIENT}:80";proto=https;host="a.example"')],
        origin(scheme="https", host="a.example"),
    ),
    "standard hops": (
        [
            ("forwarded", f"for={LIAR};proto=http, for={CLIENT};proto=https;by=x"),
            ("forwarded", "For=10.0.0.1"),
        ],
        origin(scheme="https"),
    ),
    "standard IPv6": ([("forwarded", 'for="[2a00::7]:4711"')], origin("2a00::7")),
    "a hidden address": ([("forwarded", f"for={LIAR}, for=_hidden")], origin(PEER)),
    "a comma in quotes": ([("forwarded", f'for="{LIAR}, for={LIAR}", for={CLIENT}')], origin()),
    "a malformed standard header": ([("forwarded", f'for={CLIENT};proto="https')], origin(PEER)),
    "a repeated parameter": ([("forwarded", f"for={LIAR};for={CLIENT}")], origin(PEER)),
    "both headers": (
        [
            ("forwarded", f"for={CLIENT};proto=https"),
            ("x-forwarded-for", CLIENT),
            ("x-forwarded-proto", "https"),
        ],
        origin(scheme="https"),
    ),
    "a standard header that the proxy passed on": (
        [("forwarded", f"for={LIAR};proto=https;host=evil.example"), ("x-forwarded-for", CLIENT)],
        origin(PEER, "https", "evil.example"),
    ),
    "a common header that the proxy passed on": (
        [
            ("x-forwarded-for", LIAR),
            ("x-forwarded-host", "evil.example"),
            ("forwarded", f"for={CLIENT};host=a.example"),
        ],
        origin(PEER),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_client_is_the_last_address_of_no_trusted_proxy(case: str) -> None:
    headers, expected_origin = CASES[case]
    raw = [(name.encode(), value.encode()) for name, value in headers]
    assert TrustedProxies(TRUSTED).origin(raw, PEER) == expected_origin


@pytest.mark.parametrize(
    ("entries", "client", "is_trusted"),
    [
        ("", "127.0.0.1", False),
        ("", None, False),
        ("unix", None, True),
        ("unix", "127.0.0.1", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("10.0.0.0/8", "10.255.0.1", True),
        ("10.0.0.7/8", "11.0.0.1", False),
        ("::ffff:10.0.0.0/104", "10.9.9.9", True),
        ("2001:db8::/32", "2001:db8:9::1", True),
        ("2001:db8::/32", "10.0.0.1", False),
        ("fe80::/10", "fe80::1%eth0", True),
    ],
)
def test_proxies_are_trusted_by_address_network_and_socket(
    entries: str, client: str | None, is_trusted: bool
) -> None:
    assert TrustedProxies(entries).trusts(client) is is_trusted


@pytest.mark.parametrize("entries", ["proxy.example", "*", "10.0.0.0/33", "127.0.0.1:80", "unix:/run/x"])
def test_another_entry_is_refused(entries: str) -> None:
    with pytest.raises(InvalidRequest, match=r"in trusted_proxies is no address"):
        TrustedProxies(entries)


def binary(command: int, family: int, addresses: bytes, fields: bytes = b"") -> bytes:
    payload = addresses + fields
    return BINARY_START + bytes((command, family)) + len(payload).to_bytes(2, "big") + payload


V4 = socket.inet_aton(CLIENT) + socket.inet_aton("10.0.0.1") + b"\x12\x34\x00\x50"
V6 = socket.inet_pton(socket.AF_INET6, "2a00::7") * 2 + b"\x12\x34\x00\x50"
TLS = b"\x04\x00\x01\x00" + b"\x20\x00\x05\x01\0\0\0\0"
HEADERS: dict[str, tuple[bytes, tuple[str, bool] | None]] = {
    "text": (f"PROXY TCP4 {CLIENT} 10.0.0.1 4711 80\r\n".encode(), (CLIENT, False)),
    "text, IPv6": (b"PROXY TCP6 2a00::7 2001:db8::1 4711 80\r\n", ("2a00::7", False)),
    "text, unknown": (b"PROXY UNKNOWN\r\n", ("", False)),
    "text, unknown with addresses": (f"PROXY UNKNOWN {LIAR} {LIAR} 1 2\r\n".encode(), ("", False)),
    "binary": (binary(0x21, 0x11, V4), (CLIENT, False)),
    "binary, IPv6": (binary(0x21, 0x21, V6), ("2a00::7", False)),
    "binary, TLS": (binary(0x21, 0x11, V4, TLS), (CLIENT, True)),
    "binary, no TLS": (binary(0x21, 0x11, V4, TLS.replace(b"\x05\x01", b"\x05\x00")), (CLIENT, False)),
    "binary, a field that is cut": (binary(0x21, 0x11, V4, b"\x20\x00\x05"), (CLIENT, False)),
    "binary, of the proxy itself": (binary(0x20, 0x11, V4), ("", False)),
    "binary, no address": (binary(0x21, 0x00, b""), ("", False)),
    "binary, a Unix socket": (binary(0x21, 0x31, b"\0" * 216), ("", False)),
    "text without an end": (b"PROXY TCP4 " + b"1" * MAX_TEXT_BYTES, None),
    "text, another family": (f"PROXY UDP4 {CLIENT} {CLIENT} 1 2\r\n".encode(), None),
    "text, a name": (b"PROXY TCP4 localhost 10.0.0.1 1 2\r\n", None),
    "text, the wrong family": (b"PROXY TCP4 2a00::7 2a00::8 1 2\r\n", None),
    "text, too few words": (f"PROXY TCP4 {CLIENT}\r\n".encode(), None),
    "binary, version 1": (binary(0x11, 0x11, V4), None),
    "binary, another command": (binary(0x22, 0x11, V4), None),
    "binary, too short for its addresses": (binary(0x21, 0x21, V4), None),
    "binary, too long": (binary(0x21, 0x11, V4, b"\x04" + (9_000).to_bytes(2, "big") + b"\0" * 9_000), None),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_proxy_header_names_the_client(case: str) -> None:
    data, fields = HEADERS[case]
    if fields is None:
        with pytest.raises(ValueError, match=r".+"):
            read_header(data)
        return
    for size in range(len(data)):
        assert read_header(data[:size]) is None
    assert read_header(data + HEALTH) == ProxyHeader(len(data), *fields)


@pytest.mark.parametrize("data", [b"POST / HTTP/1.1\r\n", b"PRO", b"GET", b"PROXY\r\n", b"\r\nGET /"])
def test_requests_begin_with_no_header(data: bytes) -> None:
    assert read_header(data) in (NO_HEADER, None)
    assert read_header(data + b"x" * 20) is NO_HEADER


# --- on a server ----------------------------------------------------------------------------------------------


def register(**headers: str) -> bytes:
    body = json.dumps({"redirect_uris": ["http://127.0.0.1/back"]}).encode()
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = ["POST /register HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *lines, "", ""]
    return "\r\n".join(head).encode() + body


async def statuses(folder: Path, requests: list[bytes], **settings: Any) -> list[int]:
    """Return the statuses of the answers to requests, each on a connection of its own."""
    answers = []
    async with served(folder, **settings) as api:
        for request in requests:
            async with wire(api) as client:
                await client.say(request)
                answers.append((await client.answer())[0])
    return answers


@pytest.mark.parametrize(
    ("trusted", "is_counted_alone"), [("", False), ("192.0.2.0/24", False), ("127.0.0.1", True)]
)
async def test_registrations_count_for_the_client_behind_a_trusted_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: str, is_counted_alone: bool
) -> None:
    monkeypatch.setattr(oauth_clients, "MAX_REGISTRATIONS", 2)
    client_requests = [register(X_Forwarded_For=f"{LIAR}, {CLIENT}")] * 3
    other_request = register(X_Forwarded_For=f"{CLIENT}, 198.51.100.8")
    assert await statuses(tmp_path, [*client_requests, other_request], trusted_proxies=trusted) == [
        *(201, 201, 429),
        201 if is_counted_alone else 429,
    ]


PROXIED = f"PROXY TCP4 {CLIENT} 10.0.0.1 4711 80\r\n".encode()
PROXIED_BINARY = binary(0x21, 0x11, V4)


@pytest.mark.parametrize(
    ("start", "trusted", "status"),
    [
        (PROXIED, "127.0.0.1", 200),
        (PROXIED_BINARY, "127.0.0.1", 200),
        (b"", "127.0.0.1", 200),
        (PROXIED, "", 400),
        (PROXIED_BINARY, "", 400),
        (PROXIED, "192.0.2.1", 400),
        (PROXIED * 2, "127.0.0.1", 400),
        (b"PROXY TCP4 nobody\r\n", "127.0.0.1", 400),
        (b"PROXY " + b"x" * 200, "127.0.0.1", 400),
    ],
)
async def test_only_a_trusted_proxy_begins_with_a_proxy_header(
    tmp_path: Path, start: bytes, trusted: str, status: int
) -> None:
    async with served(tmp_path, trusted_proxies=trusted) as api, wire(api) as client:
        for byte in start:
            await client.say(bytes((byte,)))
        await client.say(HEALTH)
        answer = await client.answer()
        assert answer[0] == status
        if status == 200:  # the second request has no header
            await client.say(HEALTH)
            assert (await client.answer())[0] == 200


async def test_headers_of_a_client_behind_a_proxy_header_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oauth_clients, "MAX_REGISTRATIONS", 1)
    first, second = (register(X_Forwarded_For=f"203.0.113.{number}") for number in (1, 2))
    answers = await statuses(
        tmp_path, [PROXIED + first, PROXIED_BINARY + second, first], trusted_proxies="127.0.0.1"
    )
    assert answers == [201, 429, 201]


@pytest.mark.parametrize(
    "request_bytes",
    [PROXIED + HEALTH, HEALTH.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n")],
    ids=["PROXY", "header"],
)
async def test_a_trusted_proxy_needs_a_key(tmp_path: Path, request_bytes: bytes) -> None:
    async with api_server(tmp_path, trusted_proxies="127.0.0.1") as api, wire(api) as client:
        await client.say(request_bytes.replace(b"/health", b"/v1/models"))
        status, body = await client.answer()
        assert (status, b"trust_local_proxy" in body) == (401, True)


async def test_connections_of_a_proxy_count_for_their_clients(tmp_path: Path) -> None:
    async def ask_as(client: Wire, address: str) -> int:
        header = f"\r\nX-Forwarded-For: {address}\r\n\r\n".encode()
        await client.say(HEALTH.replace(b"\r\n\r\n", header))
        return (await client.answer())[0]

    settings = {"trusted_proxies": "127.0.0.1", "max_connections_per_address": 2}
    async with (
        served(tmp_path, **settings) as api,
        wire(api) as first,
        wire(api) as second,
        wire(api) as third,
        wire(api) as stranger,
    ):
        assert [await ask_as(client, CLIENT) for client in (first, second)] == [200, 200]
        assert await ask_as(stranger, LIAR) == 200
        assert await ask_as(third, CLIENT) == 200
        assert await first.rest() == b""  # the oldest connection of this client made room
        assert [await ask_as(client, CLIENT) for client in (second, third)] == [200, 200]
        assert await ask_as(stranger, LIAR) == 200
        assert await ask_as(stranger, CLIENT) == 200  # the proxy sends another client's request on it
        await turn(api)
        assert await second.rest() == b""


@pytest.mark.parametrize(
    ("trusted", "resource"), [("127.0.0.1", "https://portico.example"), ("", "http://localhost")]
)
async def test_addresses_in_answers_are_those_that_the_client_uses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, trusted: str, resource: str
) -> None:
    exchange._name_settings.cache_clear()
    headers = {
        "Host": "localhost",
        "X-Forwarded-For": CLIENT,
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "portico.example",
    }
    settings = {"trusted_proxies": trusted, "allowed_hosts": "portico.example"}
    async with served(tmp_path, **settings) as api:
        path = "/.well-known/oauth-protected-resource/mcp"
        document = (await api.client.get(path, headers=headers)).json()
        assert (document["resource"], document["authorization_servers"]) == (f"{resource}/mcp", [resource])
        server = (await api.client.get("/.well-known/oauth-authorization-server", headers=headers)).json()
        assert (server["issuer"], server["token_endpoint"]) == (resource, f"{resource}/token")
        warnings = [record.message for record in caplog.records if "trusted_proxies" in record.message]
        assert len(warnings) == (0 if trusted else 1)
        refusal = await api.client.get("/mcp", headers=headers)
        assert f'resource_metadata="{resource}{path}"' in refusal.headers["www-authenticate"]
        assert (
            await api.client.get("/", headers={**headers, "X-Forwarded-Host": "evil.example"})
        ).status_code == (403 if trusted else 200)


# --- real proxies ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    environment = {"PORTICO_OFFLINE": "1", "PORTICO_API_KEY": KEY, "PORTICO_TRUSTED_PROXIES": "127.0.0.1"}
    environment["PORTICO_ALLOWED_HOSTS"] = "*"
    with daemons.running(tmp_path_factory.mktemp("home"), env=environment) as daemon:
        yield daemon


FORWARDING = {
    "nginx": (
        "location / {",
        "location / { proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
    ),
    "caddy": ("", ""),
    "haproxy": ("  server daemon", "  option forwardfor\n  server daemon"),
    "haproxy with PROXY headers": ("server daemon DAEMON", "server daemon DAEMON send-proxy-v2"),
    "apache2": ("", ""),
}
"""A part of each newcomer's configuration, and what makes the proxy name its client."""

NAMES = list(FORWARDING)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each_client_of_a_proxy_registers_a_bounded_number(daemon: Daemon, tmp_path: Path, name: str) -> None:
    number = 2 + 2 * NAMES.index(name)

    def register_from(source: str, spoofed: str) -> int:
        transport = httpx.HTTPTransport(local_address=source)
        body = {"redirect_uris": ["http://127.0.0.1/back"]}
        with httpx.Client(base_url=url, transport=transport, headers={"X-Forwarded-For": spoofed}) as client:
            return client.post("/register", json=body).status_code

    command = name.partition(" ")[0]
    with proxies.naive(command, tmp_path, daemon.url, replace=FORWARDING[name]) as url:
        answers = [register_from(f"127.0.0.{number}", f"192.0.2.{count}") for count in range(61)]
        assert set(answers[:60]) == {201} and answers[60] == 429
        assert register_from(f"127.0.0.{number + 1}", f"127.0.0.{number}") == 201
