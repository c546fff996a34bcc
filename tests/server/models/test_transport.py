"""Frames of an answer, however its bytes are split."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from portico_server.core.errors import EngineFailed
from portico_server.models import transport
from portico_server.models.endpoint import Endpoint
from portico_server.models.transport import read_frames

ENDS = b"data: 1\r\n\r\ndata: 2\n\ndata: \r3\r\ndata: 4\n\r\ndata: [DONE]\r\n\r\n"
FRAMES = b"data: 1\n\ndata: 2\n\ndata: \r3\ndata: 4\n\ndata: [DONE]\n\n"


class Response:
    """The body of an answer, which arrives in ``pieces``."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces: Iterator[bytes] = iter(pieces)
        self.content: Any = self
        self.closed = False

    async def readany(self) -> bytes:
        return next(self._pieces, b"")

    def close(self) -> None:
        self.closed = True


async def frames(*pieces: bytes) -> list[bytes]:
    response = Response(pieces)
    collected_frames = [
        frame
        async for frame in read_frames(cast("aiohttp.ClientResponse", response), deadline=None, idle=None)
    ]
    assert response.closed
    return collected_frames


async def test_frames_are_the_same_wherever_the_bytes_are_cut() -> None:
    for first in range(1, len(ENDS)):
        for second in range(first + 1, len(ENDS)):
            cut_frames = await frames(ENDS[:first], ENDS[first:second], ENDS[second:])
            assert b"".join(cut_frames) == FRAMES and all(frame.endswith(b"\n\n") for frame in cut_frames), (
                first,
                second,
            )
    assert b"".join(await frames(*(bytes([byte]) for byte in ENDS))) == FRAMES
    assert await frames(b'data: {"a":', b" 1}\r\n") == [
        b'data: {"a": 1}\n\n'
    ]  # the last frame, without its end


async def test_a_frame_in_many_pieces_is_assembled_in_linear_time() -> None:
    # Copying the frame for each piece would take terabytes.
    piece, number = b"x" * 256, 120_000
    assert [len(frame) for frame in await frames(b"data: ", *[piece] * number, b"\n\n")] == [256 * number + 8]


async def test_the_metadata_document_of_a_server_is_limited_in_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_DOCUMENT_BYTES", 1_000_000)

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(int(request.query["count"])):
                await response.write(bytes(100_000))
        return response

    app = web.Application()
    app.router.add_get("/models", answer)
    engine_transport = transport.EngineTransport()
    async with TestServer(app) as server:
        url = str(server.make_url(""))
        small, large = (
            transport.EngineRoute(Endpoint(url, ""), f"models?count={count}") for count in (3, 1_000)
        )
        assert len(await engine_transport.get(small, deadline=None)) == 300_000
        with pytest.raises(EngineFailed, match="cut off"):
            await engine_transport.get(large, deadline=None)
    await engine_transport.close()
