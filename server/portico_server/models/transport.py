"""HTTP connections to engines and providers, and calls to one model on a server. Imports aiohttp."""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any
from urllib.request import getproxies

import aiohttp
import orjson
from yarl import URL

from portico_server.child_environment import is_local
from portico_server.core import agent_depth
from portico_server.core.context import ENDS_AT
from portico_server.core.errors import DeadlineExceeded, EngineFailed, PorticoError, retry_after_s
from portico_server.core.secret_values import SecretValues
from portico_server.http.client import open_session
from portico_server.models.endpoint import Endpoint
from portico_server.models.openai_wire import error_of

CONNECT_TIMEOUT_S = 10.0
"""Timeout for connecting to a server, in seconds."""

KEEP_ALIVE_S = 4.0
"""Seconds that an unused connection is kept. This is less than uvicorn's five, so that our side closes it."""

MAX_FRAME_BYTES = 48 * 1024 * 1024
"""Maximum size of one SSE frame, in bytes. An image is one frame; reading ends at a frame that exceeds the limit."""

LARGE_BODY_BYTES = 1024 * 1024
"""Size of a body, in bytes, above which it is sent in pieces. Written in one piece, it would delay other calls."""

MAX_BODY_BYTES = 512 * 1024 * 1024
"""Maximum size of an answer, streamed or not, in bytes. Some readers keep the whole answer in memory."""

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
"""Maximum size of a document about a server, in bytes: its list of models, or its state."""

CONNECTION_ERRORS = (aiohttp.ClientError, ConnectionError, TimeoutError)


class EngineRoute:
    """One address of an engine with its headers, ready for a POST."""

    __slots__ = ("headers", "local", "url")

    def __init__(self, endpoint: Endpoint, operation: str) -> None:
        self.url = URL(f"{endpoint.url}/{operation}")
        self.local = endpoint.direct or is_local(self.url.host)
        # The bytes of an answer are passed on unchanged, so they must not be compressed.
        self.headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            **endpoint.headers,
        }
        if endpoint.key:
            self.headers["Authorization"] = f"Bearer {endpoint.key}"


class EngineTransport:
    """Two connection pools: one keeps connections, the other opens a new connection for each call.

    llama.cpp's server announces keep-alive after a stream but then closes the connection; ``reuse=False`` avoids this
    problem. If the environment names a proxy, two separate pools use it for servers on other machines; servers on this
    machine are always reached directly.
    """

    def __init__(self) -> None:
        self._near = (_session(reuse=False), _session(reuse=True))
        self._proxied = self._near
        if getproxies():
            self._proxied = (_session(reuse=False, is_proxied=True), _session(reuse=True, is_proxied=True))

    async def post(
        self,
        route: EngineRoute,
        body: bytes | aiohttp.FormData,
        *,
        deadline: float | None,
        reuse: bool = True,
    ) -> aiohttp.ClientResponse:
        """Call `send` with POST."""
        return await self.send("POST", route, body, deadline=deadline, reuse=reuse)

    async def send(
        self,
        method: str,
        route: EngineRoute,
        body: bytes | aiohttp.FormData | None,
        *,
        deadline: float | None,
        reuse: bool = True,
    ) -> aiohttp.ClientResponse:
        """Send ``body`` and return when the headers have arrived. Raise aiohttp's errors and `TimeoutError`."""
        session = (self._near if route.local else self._proxied)[reuse]
        headers = agent_depth.with_trace_headers(route.headers)
        data = io.BytesIO(body) if isinstance(body, bytes) and len(body) > LARGE_BODY_BYTES else body
        # a form sets its own Content-Type, which contains the boundary of its parts
        if isinstance(body, aiohttp.FormData):
            headers = {name: value for name, value in headers.items() if name != "Content-Type"}
        context_manager = session.request(
            method, route.url, data=data, headers=headers, allow_redirects=False
        )
        if deadline == ENDS_AT.get():
            return await context_manager
        async with asyncio.timeout_at(deadline):
            return await context_manager

    async def get(self, route: EngineRoute, *, deadline: float | None) -> bytes:
        """Return a small document. Raise the same errors as `post`, and `PorticoError` for a status other than 200."""
        session = (self._near if route.local else self._proxied)[False]
        async with (
            asyncio.timeout_at(deadline),
            session.get(route.url, headers=route.headers, allow_redirects=False) as response,
        ):
            data = await read_all(response, deadline=deadline, limit=MAX_DOCUMENT_BYTES)
            if response.status != 200:
                raise error_of(response.status, data, str(route.url))
            return data

    async def close(self) -> None:
        for session in {*self._near, *self._proxied}:
            await session.close()


def _session(*, reuse: bool, is_proxied: bool = False) -> aiohttp.ClientSession:
    connector = (
        aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
        if reuse
        else aiohttp.TCPConnector(limit=0, force_close=True)
    )
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
    return open_session(timeout, is_proxied=is_proxied, connector=connector)


class _Pieces:
    """The body of an answer as it arrives, within its time limits.

    One timer serves all pieces, because a timer for each piece would cost as much as passing the piece on.
    """

    __slots__ = ("_content", "_deadline", "_idle", "_loop", "_response", "_since", "_timed_out", "_timer")

    def __init__(self, response: aiohttp.ClientResponse, deadline: float | None, idle: float | None) -> None:
        self._response = response
        self._content = response.content
        self._deadline = deadline
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._timed_out = False
        self._since: float | None = None
        """When the current wait for a piece began; infinite if the wait has no limit."""
        self._timer: asyncio.TimerHandle | None = None
        self._set_timer(self._loop.time())

    async def next(self, *, patient: bool = False) -> bytes:
        """Return the bytes that have arrived since the last call; empty at the end.

        Raise `TimeoutError` at the deadline and, unless ``patient``, `ConnectionError` after ``idle`` seconds.
        """
        if self._timed_out:  # data that arrived before the timeout can still be read
            async with asyncio.timeout_at(self._deadline):
                return await self._content.readany()
        self._since = math.inf if patient else self._loop.time()
        data = await self._content.readany()
        self._since = None
        return data

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._response.close()

    def _set_timer(self, now: float) -> None:
        """Set the timer for the next moment at which a limit can be reached."""
        begin = now if self._since is None else min(now, self._since)
        ends = [] if self._idle is None else [begin + self._idle]
        if self._deadline is not None:
            ends.append(self._deadline)
        if ends:
            self._timer = self._loop.call_at(min(ends), self._on_timer)

    def _on_timer(self) -> None:
        """Interrupt a wait that has exceeded its limit."""
        now = self._loop.time()
        if self._deadline is not None and now >= self._deadline:
            self._timed_out = True
            if self._since is not None:
                self._content.set_exception(TimeoutError())
        elif self._idle is not None and self._since is not None and now >= self._since + self._idle:
            self._content.set_exception(ConnectionAbortedError(f"no data arrived for {self._idle:g} s"))
        else:
            self._set_timer(now)


async def read_all(
    response: aiohttp.ClientResponse,
    *,
    deadline: float | None,
    idle: float | None = None,
    limit: int = MAX_BODY_BYTES,
) -> bytes:
    """Return the whole body and close the response.

    ``idle`` is the number of seconds between two pieces after which the response counts as broken. The first piece has
    no such limit, because some servers send their headers before they start to compute. Raise `ConnectionError` after
    ``idle``, and `EngineFailed` for a body of more than ``limit`` bytes.
    """
    if response.content.is_eof():  # a short body that arrived with its headers needs no wait
        try:
            return response.content.read_nowait()
        finally:
            response.close()
    pieces = _Pieces(response, deadline, idle)
    try:
        if (response.content_length or 0) <= limit:
            parts: list[bytes] = []
            size = 0
            while data := await pieces.next(patient=not parts):
                size += len(data)
                if size > limit:
                    break
                parts.append(data)
            else:
                return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        pieces.close()
    raise _too_much(limit)


def _too_much(limit: int = MAX_BODY_BYTES) -> EngineFailed:
    return EngineFailed(f"The engine sent an answer of more than {limit >> 20} MB, which was cut off.")


async def read_pieces(
    response: aiohttp.ClientResponse, *, deadline: float | None, idle: float | None = None
) -> AsyncIterator[bytes]:
    """Yield the body as it arrives, then close the response. Limits and errors are those of `read_all`."""
    pieces = _Pieces(response, deadline, idle)
    size = 0
    try:
        while data := await pieces.next(patient=not size):
            size += len(data)
            if size > MAX_BODY_BYTES:
                raise _too_much()
            yield data
    finally:
        pieces.close()


async def read_frames(
    response: aiohttp.ClientResponse, *, deadline: float | None, idle: float | None = None
) -> AsyncIterator[bytes]:
    """Yield complete SSE frames with ``\\n`` line ends, one or several at a time, as they arrive; then close the
    response.

    ``idle`` is the number of seconds without a byte after which the stream counts as broken. Raise `ConnectionError`
    for a broken stream, and for a stream that ends in the middle of a frame. A body without events is yielded whole.
    """
    frame = bytearray()  # the beginning of a frame whose end has not arrived yet
    half = b""  # half of a line end
    size = 0
    pieces = _Pieces(response, deadline, idle)
    try:
        while data := await pieces.next():
            size += len(data)
            if size > MAX_BODY_BYTES:
                raise _too_much()
            if half or data.find(b"\r") >= 0:
                data = half + data
                half = data[-1:] if data.endswith(b"\r") else b""
                data = data.removesuffix(b"\r").replace(b"\r\n", b"\n")
            if not frame and data.endswith(b"\n\n"):
                yield data
                continue
            looked_at = max(0, len(frame) - 1)
            frame += data
            end = frame.rfind(b"\n\n", looked_at) + 2
            if end > 1:
                yield bytes(frame[:end])
                del frame[:end]
            elif len(frame) > MAX_FRAME_BYTES:
                raise EngineFailed(f"The engine sent a frame of more than {MAX_FRAME_BYTES >> 20} MB.")
        if frame.strip():
            if not _is_complete(remainder := bytes(frame)) and remainder.lstrip().startswith(b"data:"):
                raise ConnectionResetError("the stream ended in the middle of a line")
            yield remainder.rstrip() + b"\n\n"
    finally:
        pieces.close()


def _is_complete(frame: bytes) -> bool:
    """Return whether a last frame without its end marker is complete."""
    payload = frame.rpartition(b"data:")[2].strip()
    try:
        return payload == b"[DONE]" or bool(orjson.loads(payload))
    except orjson.JSONDecodeError:
        return frame.startswith(b":")


def deadline_exceeded(name: str) -> DeadlineExceeded:
    """Return the error for a call that has reached its deadline."""
    return DeadlineExceeded(f"'{name}' did not finish in time and was stopped.")


Explain = Callable[[BaseException], Awaitable[PorticoError]]
"""A function that turns a broken connection into an error that says what happened to the engine."""


class Upstream:
    """A model on a server. ``name`` is the model's name in Portico, ``model`` its name on the server.

    ``idle``: seconds of silence in the middle of an answer after which the connection counts as broken.
    """

    def __init__(
        self,
        transport: EngineTransport,
        endpoint: Endpoint,
        name: str,
        explain: Explain,
        *,
        idle: float | None = None,
    ) -> None:
        self.name = name
        self.model = endpoint.model
        self._transport = transport
        self._endpoint = endpoint
        self._secrets = SecretValues(()) if endpoint.direct else endpoint.secrets()
        self._explain_break = explain
        self._idle = idle

    def route(self, operation: str) -> EngineRoute:
        """Return the address of one operation."""
        return EngineRoute(self._endpoint, operation)

    async def post(
        self, route: EngineRoute, body: Mapping[str, Any] | aiohttp.FormData, deadline: float | None
    ) -> aiohttp.ClientResponse:
        """Return a response with status 200, whose body is still unread. Raise `PorticoError`."""
        payload = body if isinstance(body, aiohttp.FormData) else orjson.dumps(body)
        try:
            response = await self._transport.post(route, payload, deadline=deadline)
            if response.status == 200:
                return response
            data = await self._read(response, deadline)
        except CONNECTION_ERRORS as error:
            raise await self.explain(error) from error
        raise error_of(response.status, data, self.name, retry_after_s(response.headers.get("Retry-After")))

    async def read_whole(self, response: aiohttp.ClientResponse, deadline: float | None) -> bytes:
        """Return the body of a response. Raise `PorticoError`."""
        try:
            return await self._read(response, deadline)
        except CONNECTION_ERRORS as error:
            raise await self.explain(error) from error

    def frames(self, response: aiohttp.ClientResponse, deadline: float | None) -> AsyncIterator[bytes]:
        """Yield the frames of a streamed answer. Raises `CONNECTION_ERRORS`; pass the error to `explain`."""
        frames = read_frames(response, deadline=deadline, idle=self._idle)
        return _without_secrets(frames, self._secrets) if self._secrets else frames

    def pieces(self, response: aiohttp.ClientResponse, deadline: float | None) -> AsyncIterator[bytes]:
        """Yield the bytes of an answer as they arrive. Raises `CONNECTION_ERRORS`; pass the error to `explain`."""
        return read_pieces(response, deadline=deadline, idle=self._idle)

    async def _read(self, response: aiohttp.ClientResponse, deadline: float | None) -> bytes:
        return self._secrets.remove_bytes(await read_all(response, deadline=deadline, idle=self._idle))

    async def explain(self, error: BaseException) -> PorticoError:
        """Return the error for a broken connection."""
        # aiohttp's own timeouts raise subclasses of TimeoutError. Only the deadline raises TimeoutError
        # itself.
        return (
            deadline_exceeded(self.name) if type(error) is TimeoutError else await self._explain_break(error)
        )


async def _without_secrets(frames: AsyncIterator[bytes], secrets: SecretValues) -> AsyncIterator[bytes]:
    async with aclosing(frames):  # type: ignore[type-var]
        async for frame in frames:
            yield secrets.remove_bytes(frame)
