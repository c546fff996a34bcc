"""Connections to engines and providers. Imports aiohttp: loaded when the first model is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.request import getproxies

import aiohttp
import orjson
from yarl import URL

from portico_server.core.errors import DeadlineExceeded, EngineFailed
from portico_server.engines.endpoint import Endpoint
from portico_server.engines.refusal import error_of

CONNECT = 10.0
"""Seconds to reach a server."""

KEEP_ALIVE = 4.0
"""Seconds that an unused connection is kept: less than uvicorn's five, so that we are the one who closes it."""

FRAME_LIMIT = 8 * 1024 * 1024
"""Bytes that one SSE frame may have; an upstream that never ends one is cut off."""

BODY_LIMIT = 512 * 1024 * 1024
"""Bytes that an answer which is not a stream may have."""

CONNECTION_ERRORS = (aiohttp.ClientError, ConnectionError, TimeoutError)


class Route:
    """One address of an engine with its headers, ready to be posted to."""

    __slots__ = ("headers", "url")

    def __init__(self, endpoint: Endpoint, operation: str) -> None:
        self.url = URL(f"{endpoint.url}/{operation}")
        # Bytes are passed on as they are, so they must not be compressed.
        self.headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            **endpoint.headers,
        }
        if endpoint.key:
            self.headers["Authorization"] = f"Bearer {endpoint.key}"


class Transport:
    """Two pools: one that keeps connections, one that makes a new one for each call.

    llama.cpp's server announces keep-alive after a stream and then closes: ``reuse=False`` is for it.
    """

    def __init__(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT)
        self._kept = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE),
            trust_env=bool(getproxies()),
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._fresh = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def post(
        self, route: Route, body: bytes, *, deadline: float | None, reuse: bool = True
    ) -> aiohttp.ClientResponse:
        """Send ``body``; returns when the headers are there. Raises aiohttp's errors and `TimeoutError`."""
        session = self._kept if reuse else self._fresh
        async with asyncio.timeout_at(deadline):
            return await session.request(
                "POST", route.url, data=body, headers=route.headers, allow_redirects=False
            )

    async def get(self, route: Route, *, deadline: float | None) -> bytes:
        """A small document. Raises as `post`, and `PorticoError` for a status other than 200."""
        async with (
            asyncio.timeout_at(deadline),
            self._fresh.get(route.url, headers=route.headers) as response,
        ):
            data = await response.read()
            if response.status != 200:
                raise error_of(response.status, data, str(route.url))
            return data

    async def close(self) -> None:
        await self._kept.close()
        await self._fresh.close()


async def read_all(
    response: aiohttp.ClientResponse, *, deadline: float | None, idle: float | None = None
) -> bytes:
    """The whole body; closes the response.

    ``idle``: seconds between two pieces of it after which it counts as broken; the first may take its time, since some
    servers send their headers before they begin to think. Raises `ConnectionError` then, and `EngineFailed` for a
    body that is beyond all measure.
    """
    try:
        if (response.content_length or 0) <= BODY_LIMIT:
            parts: list[bytes] = []
            size = 0
            while data := await _piece(response, deadline, idle if parts else None):
                size += len(data)
                if size > BODY_LIMIT:
                    break
                parts.append(data)
            else:
                return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        response.close()
    raise EngineFailed(f"The engine sent an answer of more than {BODY_LIMIT >> 20} MB; it was cut off.")


async def _piece(response: aiohttp.ClientResponse, deadline: float | None, idle: float | None) -> bytes:
    """What has come of the body since the last time; empty at its end. Raises `ConnectionError` after ``idle`` seconds
    without any, `TimeoutError` at the deadline.
    """
    limit = deadline
    if idle is not None:
        now = asyncio.get_running_loop().time()
        if deadline is None or now + idle < deadline:
            limit = now + idle
    try:
        async with asyncio.timeout_at(limit):
            return await response.content.readany()
    except TimeoutError as error:
        if limit == deadline or type(error) is not TimeoutError:
            raise
        raise ConnectionAbortedError(f"nothing came for {idle:g} s") from error


async def read_frames(
    response: aiohttp.ClientResponse, *, deadline: float | None, idle: float | None = None
) -> AsyncIterator[bytes]:
    """Complete SSE frames with ``\\n`` line ends, one or several at a time, as they come; closes the
    response.

    ``idle``: seconds without a byte after which it counts as broken. Raises `ConnectionError` then, and for a
    stream that ends in the middle of a frame.
    """
    rest = b""
    try:
        while data := await _piece(response, deadline, idle):
            if rest:
                data = rest + data
            if b"\r" in data:
                if data.endswith(b"\r"):
                    rest = data  # the other half of the line end is still on its way
                    continue
                data = data.replace(b"\r\n", b"\n")
            end = data.rfind(b"\n\n") + 2
            if end == 1:
                rest = data
                if len(rest) > FRAME_LIMIT:
                    raise EngineFailed(f"The engine sent a frame of more than {FRAME_LIMIT >> 20} MB.")
                continue
            rest = data[end:]
            yield data if not rest else data[:end]
        if rest.strip():
            if not _whole(rest):
                raise ConnectionResetError("the stream ended in the middle of a line")
            yield rest.rstrip() + b"\n\n"
    finally:
        response.close()


def _whole(frame: bytes) -> bool:
    """Whether a last frame without its end is one nevertheless."""
    said = frame.rpartition(b"data:")[2].strip()
    try:
        return said == b"[DONE]" or bool(orjson.loads(said))
    except orjson.JSONDecodeError:
        return frame.startswith(b":")


def late(name: str) -> DeadlineExceeded:
    """What to say when the deadline of a call has come."""
    return DeadlineExceeded(f"'{name}' did not finish in time and was stopped.")
