"""Requests that are refused before their body has arrived: the rest of the body is read and discarded, so that clients
and proxies can read the answer, within limits of time and size.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.server.http.test_connections import KEY, ask, seconds, served, turn, wire

from portico_server.http import progress

MB_BYTES = 1024 * 1024
SIZES = (1, 3, 20, 100)
"""Sizes of bodies, in MB."""


def with_close(head: bytes) -> bytes:
    return head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
async def test_a_refused_request_can_be_sent_to_its_end(tmp_path: Path, is_chunked: bool) -> None:
    piece = b"x" * MB_BYTES
    head = with_close(ask(3 * MB_BYTES, key="pk-wrong"))
    if is_chunked:
        head = head.replace(b"Content-Length: %d" % (3 * MB_BYTES), b"Transfer-Encoding: chunked")
        piece = b"%x\r\n%s\r\n" % (len(piece), piece)
    async with served(tmp_path) as api, wire(api) as client:
        await client.say(head)
        assert (await client.answer())[0] == 401
        for _ in range(3):
            await client.say(piece)
        if is_chunked:
            await client.say(b"0\r\n\r\n")
        assert await client.reader.read() == b""


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (ask(MB_BYTES, key="pk-wrong"), 401),
        (ask(2 * MB_BYTES), 413),
        (ask(MB_BYTES, path="/ready"), 405),
    ],
)
async def test_a_kept_connection_serves_the_next_request(tmp_path: Path, head: bytes, status: int) -> None:
    length = int(head.partition(b"Content-Length: ")[2])
    async with served(tmp_path, max_body_mb=1) as api, wire(api) as client:
        await client.say(head)
        assert (await client.answer())[0] == status
        await client.say(b"x" * length)
        await client.say(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await client.answer())[0] == 200


@pytest.mark.parametrize("key", [KEY, "pk-wrong"], ids=["a key", "no valid key"])
@pytest.mark.parametrize("closes", [False, True], ids=["kept", "closed"])
async def test_a_body_that_never_ends_is_cut(tmp_path: Path, key: str, closes: bool) -> None:
    head = ask(10**12, key=key)
    async with served(tmp_path) as api:
        async with wire(api) as client:  # a silent one
            await client.say(with_close(head) if closes else head)
            assert (await client.answer())[0] == (413 if key == KEY else 401)
            await seconds(api, progress.MAX_LINGER_S + 1)
            assert await client.rest() == b""
        async with wire(api) as client:
            await client.say(with_close(head) if closes else head)
            await client.answer()
            for _ in range(progress.MAX_DRAIN_S):
                await client.say(b"x" * 2048)
                await seconds(api, 1)
            assert len(api.server.connections) == 2
            await seconds(api, 1)
            assert await client.rest() == b""
            await turn(api)
            assert len(api.server.connections) == 1


async def test_the_size_of_a_discarded_body_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "MAX_DRAIN_BYTES", 10_000)
    async with served(tmp_path) as api, wire(api) as client:
        await client.say(ask(10**12, key="pk-wrong"))
        assert (await client.answer())[0] == 401
        await client.say(b"x" * 10_001)
        await seconds(api, 1)
        assert await client.rest() == b""
