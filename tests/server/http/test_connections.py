"""Connections that send slowly, send too much, or stay idle; and other callers alongside.

Time passes in `Connections.sweep`, which the server calls once a second: one call is a second.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api_server import ApiServer, RelayModel, api_server
from tests.daemon import environment

from portico_server.core.work_slots import MAX_WAITING_PER_KEY
from portico_server.http.connection import MAX_QUEUED_REQUESTS
from portico_server.http.errors import MAX_HEADER_BYTES, MAX_HEADERS, MAX_URL_BYTES
from portico_server.http.limits import RESERVED_DESCRIPTOR_COUNT, raise_descriptor_limit

KEY = "pk-of-the-operator"
WITH_KEY = {"Authorization": f"Bearer {KEY}"}
LIMIT = 60
"""Seconds after which a test gives up."""


@asynccontextmanager
async def served(folder: Path, **settings: Any) -> AsyncIterator[ApiServer]:
    """A gateway that requires a key."""
    async with api_server(folder, api_key=KEY, **settings) as api:
        yield api


class Wire:
    """A connection on which a test can send anything."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def rest(self) -> bytes:
        """Return everything that arrives until the server closes the connection."""
        async with asyncio.timeout(LIMIT):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def refusal(self) -> tuple[int, str]:
        """Return the status and code of an answer after which the connection closes."""
        head, _, body = (await self.rest()).partition(b"\r\n\r\n")
        assert b"connection: close" in head.lower(), head
        assert b"x-content-type-options: nosniff" in head.lower()
        error = json.loads(body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return int(head.split()[1]), error["code"]

    async def answer(self) -> tuple[int, bytes]:
        """Return one answer with a length, with the connection kept open."""
        async with asyncio.timeout(LIMIT):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            )
            return int(head.split()[1]), await self.reader.readexactly(length)


@asynccontextmanager
async def wire(api: ApiServer) -> AsyncIterator[Wire]:
    address = httpx.URL(api.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


async def seconds(api: ApiServer, count: int) -> None:
    """Let this many seconds pass for connections; data already sent is read first."""
    await turn(api)
    for _ in range(count):
        api.server.connections.sweep()


async def turn(api: ApiServer) -> None:
    """Wait until the server has read everything sent to it, by making it answer another request."""
    assert (await api.client.get("/health")).status_code == 200


def ask(length: int = 0, *, key: str = KEY, path: str = "/v1/chat/completions") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_headers_that_do_not_end_are_cut_off(tmp_path: Path) -> None:
    async with served(tmp_path, header_timeout=10) as api, wire(api) as slow:
        await slow.say(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        for _ in range(11):
            await slow.say(b"X-More: 1\r\n")  # a header a second does not keep a connection open
            await seconds(api, 1)
        assert await slow.refusal() == (408, "request_timeout")


async def test_a_connection_that_says_nothing_is_closed(tmp_path: Path) -> None:
    async with served(tmp_path, header_timeout=10) as api, wire(api) as silent, wire(api) as blank:
        for _ in range(11):
            await blank.say(b"\r\n")  # nor do empty lines
            await seconds(api, 1)
        assert await silent.rest() == b""
        assert await blank.rest() == b""


async def test_a_connection_is_kept_for_its_next_request_but_not_for_ever(tmp_path: Path) -> None:
    async with served(tmp_path, idle_timeout=20) as api, wire(api) as connection:
        for _ in range(3):
            await connection.say(HEALTH)
            assert (await connection.answer())[0] == 200
            await seconds(api, 15)
        await seconds(api, 6)
        assert await connection.rest() == b""


async def test_a_body_sent_too_slowly_is_refused_with_408_before_the_call(tmp_path: Path) -> None:
    async with served(tmp_path, body_timeout=20) as api, wire(api) as slow:
        api.add(teller := RelayModel("teller", b"{}"))
        await slow.say(ask(100_000))
        for _ in range(21):
            await slow.say(b" " * 100)
            await seconds(api, 1)
        assert await slow.refusal() == (408, "request_timeout")
        assert not teller.asked


async def test_chunk_extensions_do_not_count_as_body_progress(tmp_path: Path) -> None:
    async with served(tmp_path, body_timeout=20) as api, wire(api) as slow:
        await slow.say(ask().replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
        await slow.say(b"ffff;")
        for _ in range(21):
            await slow.say(b"x" * 4096)  # a chunk extension
            await seconds(api, 1)
        assert (await slow.refusal())[0] == 408


async def test_a_long_but_steadily_sent_body_is_accepted(tmp_path: Path) -> None:
    async with served(tmp_path, body_timeout=20) as api, wire(api) as steady:
        api.add(RelayModel("teller", b'{"object":"chat.completion"}'))
        body = b'{"model": "teller", "messages": [{"role": "user", "content": "Hello"}]}'
        await steady.say(ask(200_000 + len(body)))
        for _ in range(50):
            await steady.say(b" " * 4_000)
            await seconds(api, 1)
        await steady.say(body)
        assert (await steady.answer())[0] == 200


async def test_a_stream_may_take_hours(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        hold = asyncio.Event()
        api.add(teller := RelayModel("teller", b'data: {"choices":[]}\n\n', hold=hold))
        body = {"model": "teller", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
        async with api.client.stream("POST", "/v1/chat/completions", json=body, headers=WITH_KEY) as answer:
            await teller.began.wait()
            await seconds(api, 3 * 3600)
            hold.set()
            assert answer.status_code == 200
            assert b"choices" in await answer.aread()


async def test_a_refused_client_that_keeps_sending_is_disconnected(tmp_path: Path) -> None:
    async with served(tmp_path) as api, wire(api) as stranger:
        await stranger.say(ask(1_000_000, key="pk-unknown"))
        assert (await stranger.answer())[0] == 401
        for _ in range(4):
            await stranger.say(b" " * 4096)
            await seconds(api, 1)
        assert await stranger.rest() == b""


@pytest.mark.parametrize(
    ("request_head", "refusal"),
    [
        (b"X: " + b"a" * (MAX_HEADER_BYTES + 1) + b"\r\n\r\n", (431, "headers_too_large")),
        (b"X: 1\r\n" * (MAX_HEADERS + 1) + b"\r\n", (431, "headers_too_large")),
        (b"".join(b"X-%d: 1\r\n" % number for number in range(50_000)) + b"\r\n", (431, "headers_too_large")),
        (b"X: " + b"a" * 1_000_000, (431, "headers_too_large")),
        (b"No header at all\r\n\r\n", (400, "invalid_http")),
    ],
    ids=["large", "many", "50,000", "endless", "malformed"],
)
async def test_too_large_headers_are_refused(
    tmp_path: Path, request_head: bytes, refusal: tuple[int, str]
) -> None:
    async with served(tmp_path) as api, wire(api) as large:
        await large.say(b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + request_head)
        assert await large.refusal() == refusal
        await turn(api)


async def test_a_too_long_url_is_refused_with_414(tmp_path: Path) -> None:
    async with served(tmp_path) as api, wire(api) as long:
        await long.say(b"GET /health?" + b"a" * MAX_URL_BYTES + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await long.refusal() == (414, "url_too_long")


async def test_headers_up_to_the_limit_are_accepted_on_every_request_of_a_connection(tmp_path: Path) -> None:
    async with served(tmp_path) as api, wire(api) as connection:
        for _ in range(3):
            await connection.say(
                HEALTH.replace(b"\r\n\r\n", b"\r\nX: " + b"a" * (MAX_HEADER_BYTES - 200) + b"\r\n\r\n")
            )
            assert (await connection.answer())[0] == 200


async def test_requests_in_a_row_are_answered_in_order(tmp_path: Path) -> None:
    async with served(tmp_path) as api, wire(api) as eager:
        await eager.say(HEALTH * 3 + HEALTH[:20])
        for _ in range(3):
            assert (await eager.answer())[0] == 200
        await eager.say(HEALTH[20:])
        assert (await eager.answer())[0] == 200


async def test_too_many_pipelined_requests_close_the_connection(tmp_path: Path) -> None:
    async with served(tmp_path) as api, wire(api) as flood:
        hold = asyncio.Event()
        api.add(teller := RelayModel("teller", b'data: {"choices":[]}\n\n', hold=hold))
        body = json.dumps(
            {"model": "teller", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
        )
        await flood.say(ask(len(body)) + body.encode())
        await teller.began.wait()
        await flood.say(HEALTH * (MAX_QUEUED_REQUESTS + 1))
        response = await flood.rest()
        assert response.count(b"HTTP/1.1 ") == 1 and b"event-stream" in response
        async with asyncio.timeout(LIMIT):
            await teller.left.wait()


async def test_a_response_without_a_body_is_sent_immediately_and_keeps_the_connection(tmp_path: Path) -> None:
    async with served(tmp_path) as api, wire(api) as connection:
        await connection.say(HEALTH.replace(b"GET", b"HEAD"))
        async with asyncio.timeout(LIMIT):
            head = await connection.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        await connection.say(HEALTH)
        assert (await connection.answer())[0] == 200


async def test_silent_connections_are_closed_in_favour_of_authenticated_callers(tmp_path: Path) -> None:
    async with served(tmp_path, max_connections=16) as api, AsyncExitStack() as stack:
        authenticated_connection = await stack.enter_async_context(wire(api))
        listing = f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\r\n"
        await authenticated_connection.say(listing.encode())
        assert (await authenticated_connection.answer())[0] == 200
        for _ in range(50):
            silent = await stack.enter_async_context(wire(api))
            await silent.say(b"GET /health HTTP/1.1\r\nHost:")
            async with httpx.AsyncClient(base_url=api.url, headers=WITH_KEY) as caller:
                assert (await caller.get("/v1/models")).status_code == 200
        assert len(api.server.connections) <= 16
        await authenticated_connection.say(HEALTH)  # the connection is still open
        assert (await authenticated_connection.answer())[0] == 200


async def test_unauthenticated_connections_are_limited_per_address(tmp_path: Path) -> None:
    async with (
        served(tmp_path, max_connections=100, max_connections_per_address=5) as api,
        AsyncExitStack() as stack,
    ):
        wires = [await stack.enter_async_context(wire(api)) for _ in range(12)]
        await turn(api)
        assert len(api.server.connections) <= 6  # the client of `turn` is one of them
        assert await wires[0].rest() == b""


async def test_a_new_connection_is_refused_with_503_when_all_are_busy(tmp_path: Path) -> None:
    async with served(tmp_path, max_connections=1) as api:
        hold = asyncio.Event()
        api.add(teller := RelayModel("teller", b'data: {"choices":[]}\n\n', hold=hold))
        body = b'{"model":"teller","stream":true,"messages":[{"role":"user","content":"Hello"}]}'
        async with wire(api) as first:
            await first.say(ask(len(body)) + body)
            await teller.began.wait()
            async with wire(api) as second:
                assert await second.refusal() == (503, "too_many_connections")
            hold.set()


async def test_one_key_leaves_half_of_the_connections_to_others(tmp_path: Path) -> None:
    async with served(tmp_path, max_connections=8) as api, AsyncExitStack() as stack:
        hold = asyncio.Event()
        api.add(teller := RelayModel("teller", b'data: {"choices":[]}\n\n', hold=hold))
        greedy, modest = [
            (
                await api.client.post("/api/keys", headers=WITH_KEY, json={"name": name, "scopes": ["chat"]})
            ).json()["key"]
            for name in ("greedy", "modest")
        ]
        body = b'{"model":"teller","stream":true,"messages":[{"role":"user","content":"Hello"}]}'
        for _ in range(4):
            teller.began.clear()
            open_stream = await stack.enter_async_context(wire(api))
            await open_stream.say(ask(len(body), key=greedy) + body)
            await teller.began.wait()
        fifth = await stack.enter_async_context(wire(api))
        await fifth.say(ask(len(body), key=greedy) + body)
        status, refusal = await fifth.answer()
        assert (status, json.loads(refusal)["error"]["code"]) == (429, "too_many_connections")
        other_connection = await stack.enter_async_context(wire(api))
        await other_connection.say(
            b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n"
            % modest.encode()
        )
        assert (await other_connection.answer())[0] == 200
        hold.set()


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[str]:
    """The URL of a daemon that may have 400 file descriptors and requires a key."""

    def narrowed() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))

    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "portico_server", "serve", "--port", "0", "--quiet", "--parent-watch"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(PORTICO_HOME=str(tmp_path / "home"), PORTICO_API_KEY=KEY, PORTICO_OFFLINE="1"),
        preexec_fn=narrowed,
    )
    with process:
        try:
            assert process.stdout is not None
            yield str(json.loads(process.stdout.readline())["url"])
        finally:
            process.terminate()
            process.wait(LIMIT)


@pytest.mark.slow
def test_connections_without_a_key_do_not_use_up_the_descriptors(narrow: str) -> None:
    address = (httpx.URL(narrow).host, httpx.URL(narrow).port or 0)
    connections: list[socket.socket] = []
    try:
        for _ in range(600):
            connections.append(socket.create_connection(address, LIMIT))
            connections[-1].sendall(b"GET /health HTTP/1.1\r\nHost:")
        for _ in range(5):
            response = httpx.get(f"{narrow}/v1/models", headers=WITH_KEY, timeout=LIMIT)
            assert response.status_code == 200
    finally:
        for connection in connections:
            with closing(connection):
                pass


def test_the_daemon_raises_its_file_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, RESERVED_DESCRIPTOR_COUNT * 2), hard))
        assert raise_descriptor_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= min(soft, 65_536)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/web/page"], ids=["with a key", "without"])
async def test_a_declared_length_counts_before_the_body_arrives(tmp_path: Path, path: str) -> None:
    async with served(tmp_path, body_memory_mb=16) as api, AsyncExitStack() as stack:
        key_request = {"name": "greedy", "scopes": ["chat"]}
        key = (await api.client.post("/api/keys", headers=WITH_KEY, json=key_request)).json()["key"]
        slow = await stack.enter_async_context(wire(api))
        await slow.say(ask(30 * 2**20, key=key, path=path) + b'{"model":')
        await turn(api)
        answer_tasks = []
        for _ in range(MAX_WAITING_PER_KEY + 1):
            connection = await stack.enter_async_context(wire(api))
            await connection.say(ask(20_000, key=key, path=path) + b"a" * 20_000)
            answer_tasks.append(asyncio.create_task(connection.answer()))
        [first], pending_tasks = await asyncio.wait(answer_tasks, return_when=asyncio.FIRST_COMPLETED)
        assert first.result()[0] == 429
        slow.writer.close()
        assert {status for status, _ in await asyncio.gather(*pending_tasks)} == {400}


async def test_forms_held_in_memory_count_towards_the_body_memory_limit(tmp_path: Path) -> None:
    async with served(tmp_path, body_memory_mb=16, max_media_mb=1) as api, AsyncExitStack() as stack:
        key_request = {"name": "greedy", "scopes": ["chat"]}
        key = (await api.client.post("/api/keys", headers=WITH_KEY, json=key_request)).json()["key"]
        part = (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + b"a" * 1_000_000
        )
        answers = []
        for _ in range(MAX_WAITING_PER_KEY + 2):
            connection = await stack.enter_async_context(wire(api))
            await connection.say(
                b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n"
                b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n%s"
                % (key.encode(), len(part) + 100, part)
            )
            answers.append(asyncio.create_task(connection.answer()))
        first, _ = await asyncio.wait(answers, timeout=LIMIT, return_when=asyncio.FIRST_COMPLETED)
        status, refusal = first.pop().result()
        assert (status, json.loads(refusal)["error"]["code"]) == (429, "too_many_at_once")
        for answer in answers:
            answer.cancel()
        await asyncio.gather(*answers, return_exceptions=True)


async def test_declaring_a_body_as_a_form_does_not_raise_its_size_limit(tmp_path: Path) -> None:
    async with served(tmp_path, max_body_mb=1) as api:
        kind = {**WITH_KEY, "content-type": "multipart/form-data; boundary=b"}
        for path, status in (
            ("/api/keys", 400),
            ("/v1/vector_stores", 400),
            ("/v1/chat/completions", 400),
            ("/mcp", 413),
        ):
            answer = await api.client.post(path, headers=kind, content=b"a" * 2 * 2**20)
            assert answer.status_code == status, path
            if status == 400:
                assert answer.json()["error"]["code"] == "unsupported_content_type"
