"""One HTTP request and its response on raw ASGI. Every protocol adapter uses this module; the hot path uses no
framework.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

from portico_server.api import errors
from portico_server.api.body_memory import FREE_BODY_BYTES, BodyMemory
from portico_server.api.error_shape import OPENAI, Shape
from portico_server.api.errors import RawHeaders
from portico_server.api.json_body import memory_of_values, parse_in_turn
from portico_server.api.origins import UNCHECKED
from portico_server.core.errors import InvalidRequest, PorticoError, TooLarge, shutting_down
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.runs.quotas import UsageMeter
from portico_server.settings import MB_BYTES, Settings

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

Source: TypeAlias = AsyncIterator[bytes] | Callable[[Message], Awaitable[AsyncIterator[bytes]]]
"""The frames of a stream, or a function that starts the work behind them and returns them. The function gets the head
of the response, whose headers it can replace as long as the response has not started.
"""

KEEPALIVE_INTERVAL_S = 10.0
"""Maximum silence in a stream, in seconds. After it, a keep-alive prevents proxies from closing the connection."""

LAST_FRAME_TIMEOUT_S = 1.0

MAX_NAMED_PROXIES = 16

logger = logging.getLogger(__name__)

NO_SNIFFING = (b"x-content-type-options", b"nosniff")
"""Stops browsers from treating a response as a type that it does not declare, such as model text as a web page."""

JSON: RawHeaders = [(b"content-type", b"application/json")]

STREAM: RawHeaders = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class ClientLeft(Exception):
    """The client closed the connection, so no answer can be sent."""


class ClientConnection(Protocol):
    """The interface that an exchange needs from its connection."""

    @property
    def calls_per_key(self) -> int:
        """Return how many calls one key may have in progress over connections of this kind."""

    def admit(self) -> None:
        """Record that an authenticated caller has sent a request on this connection."""

    def watch(self, on_leave: Callable[[], None] | None) -> Callable[[], None] | None:
        """Call ``on_leave`` when the client leaves before its answer is complete. Return the previous callback."""

    def hold_head(self) -> None:
        """Delay the response head, which is written next, and send it together with the first part of the body."""

    def end(self) -> None:
        """Close the connection before the response is complete."""


class Exchange:
    """One request and its response. ``receive`` limits the body to ``limit`` bytes; ``send`` adds the common response
    headers.

    ``shape`` is the error format.
    """

    __slots__ = (
        "_receive",
        "_received_bytes",
        "_replay",
        "_reserved_bytes",
        "_send",
        "_to_disk",
        "beside",
        "caller",
        "connection",
        "declared_bytes",
        "expires_at",
        "expiry",
        "extra",
        "form_limit",
        "headers",
        "id",
        "limit",
        "memory",
        "meter",
        "parsed",
        "proxy_sign",
        "renew",
        "revoked",
        "role",
        "scope",
        "shape",
        "sign_in",
        "started",
        "status",
        "task",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, limit: int, shape: Shape = OPENAI) -> None:
        self.scope = scope
        self.shape = shape
        self._receive = receive
        self._send = send
        self.connection: ClientConnection | None = scope.get("portico.connection")
        """The client's connection; ``None`` for an internal request, such as a request of a batch."""
        headers: RawHeaders = scope["headers"]
        self.headers = dict(headers)
        """Headers, keyed by lower-case name. If a header is repeated, its first value is stored."""
        if self.repeats_headers:
            self.headers = dict(reversed(headers))
        self.id = new_id("req_")
        self.limit = limit
        self.form_limit = limit
        """Maximum size of a body that a handler reads as a form, in bytes: see `take_form`."""
        self.declared_bytes = 0
        """Size of the body that the client declares, in bytes; 0 if unknown."""
        self.memory: BodyMemory | None = None
        """The memory for bodies; ``None`` for an internal request, which is not counted."""
        self._to_disk = False
        self.started = False
        self.status = 0
        """Status of the response, once the response has started."""
        request_id = self.id.encode()
        self.extra: RawHeaders = [NO_SNIFFING, *[(name, request_id) for name in shape.ids]]
        self.caller: Principal | None = None
        self.meter: UsageMeter | None = None
        """Remaining usage of the caller's key, if the key has limits. Sent with every response."""
        self.proxy_sign = UNCHECKED
        """What shows that the request came through a proxy, so that it needs a key; empty if nothing does."""
        self.task: asyncio.Task[None] | None = None
        """The task that answers the request, if it can be cancelled."""
        self.expires_at = 0.0
        """When the caller's token expires, in seconds since 1970; 0 if it has no expiry."""
        self.role = ""
        """The role that the caller's token grants."""
        self.expiry: asyncio.TimerHandle | None = None
        """The timer that ends the call when the token expires."""
        self.sign_in = ""
        """The hash of the sign-in, if the request comes from a page in which the caller is signed in, or the id of
        the grant, if it carries an access token.
        """
        self.renew: Callable[[], Awaitable[float]] | None = None
        """Callback that returns until when the call can continue after its token expires; ``None`` if the call
        ends then.
        """
        self.beside: set[Exchange] | None = None
        """All calls in progress of the caller's key, including this call; ``None`` if their number is not limited."""
        self.revoked: PorticoError | None = None
        """The error to report if the call was cancelled because its key was revoked."""
        self.parsed: Any = None
        """The JSON value of a body that was read before the handler runs."""
        self._received_bytes = 0
        self._reserved_bytes = 0
        self._replay: Message | None = None

    @property
    def repeats_headers(self) -> bool:
        """Return whether a header occurs more than once."""
        return len(self.headers) < len(self.scope["headers"])

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of a header. ``name`` is in lower case."""
        return self.headers.get(name)

    def base_url(self, settings: Settings) -> str:
        """Return the daemon's address as this client sees it, without a trailing slash: ``public_url``, or the address
        of this request, which trusted proxies may report.
        """
        if settings.public_url:
            return settings.public_url.rstrip("/")
        raw_host = self.header(b"host")
        host = raw_host.decode("latin-1") if raw_host else f"{settings.host}:{settings.port}"
        scheme = "https" if self.scope.get("scheme") in ("https", "wss") else "http"
        if scheme == "http" and self.header(b"x-forwarded-proto") == b"https":
            peer = self.scope.get("client")
            _name_settings(peer[0] if peer else "unix")
        return f"{scheme}://{host}{self.scope.get('portico.prefix', '')}"

    async def receive(self) -> Message:
        """Return the next ASGI message. Raise `TooLarge` as soon as the body exceeds the limit."""
        if self._replay is not None:
            message, self._replay = self._replay, None
            return message
        message = await self._receive()
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self._received_bytes += size
            if self._received_bytes > self.limit:
                raise self.too_large()
            body_bytes = max(self._received_bytes, self.declared_bytes)
            if body_bytes > FREE_BODY_BYTES and not self._to_disk:
                await self._hold(body_bytes)
        return message

    def take_form(self, max_bytes: int | None = None, *, to_disk: bool = False) -> None:
        """Accept the body as a form, which may be larger than JSON: up to ``max_bytes``, or by default up to the
        maximum size of a file.

        ``to_disk``: the form is streamed to disk and reserves no memory. Unless a handler calls this method, the
        common size limit applies to the body, whatever its content type.
        """
        self.limit = self.form_limit if max_bytes is None else min(self.form_limit, max_bytes)
        self._to_disk = to_disk

    async def _hold(self, body_bytes: int, value_bytes: int = 0) -> None:
        """Reserve memory for a body until `release`. Wait briefly if none is free. Raises `TooMany`."""
        if self.memory is None:
            return
        extra_bytes = self.memory.cost(body_bytes, value_bytes) - self._reserved_bytes
        if extra_bytes > 0:
            await self.memory.take(self._key, extra_bytes)
            self._reserved_bytes += extra_bytes

    def hold_messages(self, size: int) -> None:
        """Set the size of the messages that this WebSocket keeps, in bytes, until `release`. Raises `TooMany`."""
        if self.memory is None:
            return
        extra_bytes = self.memory.cost_of_messages(size, self.limit) - self._reserved_bytes
        if extra_bytes > 0:
            self.memory.take_now(self._key, extra_bytes)
        elif extra_bytes < 0:
            self.memory.give(self._key, -extra_bytes)
        self._reserved_bytes += extra_bytes

    def release(self) -> None:
        """Release the memory of this call's body once the call has ended."""
        if self.memory is not None and self._reserved_bytes:
            self.memory.give(self._key, self._reserved_bytes)
        self.memory, self._reserved_bytes = None, 0

    @property
    def _key(self) -> str:
        return "" if self.caller is None else self.caller.id

    def too_large(self, limit: int | None = None) -> TooLarge:
        return TooLarge(
            f"The body is larger than {(limit or self.limit) // MB_BYTES} MB, the maximum for this path."
        )

    async def body(self) -> bytes:
        """Return the whole body. Raise `ClientLeft` if the client leaves before the end of the body."""
        message = await self.receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            whole_body: bytes = message.get("body", b"")
            return whole_body
        parts = []
        while message["type"] == "http.request":
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                return b"".join(parts)
            message = await self.receive()
        raise ClientLeft

    async def json(self) -> dict[str, Any]:
        """Return the body as a JSON object. Raise `InvalidRequest` for anything else."""
        self.require_json_type()
        raw = await self.body()
        value = await self._parse(raw)
        if not isinstance(value, dict):
            raise InvalidRequest(
                "The body must be a JSON object." if raw else "The body is empty; it must be a JSON object.",
                code="invalid_json",
            )
        return value

    async def check_json(self) -> None:
        """Read and parse a JSON body before the handler runs. The handler can then receive the same body again."""
        raw = await self.body()
        if raw:
            self.require_json_type()
            self.parsed = await self._parse(raw)
        self._replay = {"type": "http.request", "body": raw, "more_body": False}

    async def _parse(self, raw: bytes) -> Any:
        if len(raw) > FREE_BODY_BYTES:
            await self._hold(len(raw), await memory_of_values(raw))
        return await parse_in_turn(raw)

    @property
    def is_form(self) -> bool:
        """Return whether the body is an uploaded form, which its endpoint reads in pieces."""
        return (self.header(b"content-type") or b"").startswith(b"multipart/form-data")

    def require_json_type(self) -> None:
        """Raise `InvalidRequest` unless the content type is JSON or absent."""
        encoding = self.header(b"content-encoding")
        if encoding is not None and encoding.lower() != b"identity":
            raise InvalidRequest(
                f"The body has the content encoding '{encoding.decode('latin-1')[:80]}'; send it without an "
                "encoding.",
                code="unsupported_content_encoding",
            )
        raw = self.header(b"content-type")
        if raw is None or raw == b"application/json":
            return
        kind = raw.partition(b";")[0].strip().lower()
        if kind != b"application/json" and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
            raise InvalidRequest(
                f"The content type '{kind.decode('latin-1')}' is not supported; send application/json.",
                code="unsupported_content_type",
            )

    async def send(self, message: Message) -> None:
        """Send an ASGI message. The first message gets the headers in ``extra``."""
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self.extra]
            if self.meter is not None:
                message["headers"] += self.meter.headers()
        await self._send(message)

    def name_unenforced(self, keywords: Sequence[str]) -> None:
        """Name the keywords of the request's JSON schemas that the answer may violate, in a header."""
        if keywords:
            self.extra.append((b"x-portico-unenforced", ", ".join(keywords).encode()))

    async def answer(self, status: int, body: bytes, headers: RawHeaders = JSON) -> None:
        """Send a complete response."""
        length = (b"content-length", str(len(body)).encode())
        head = {"type": "http.response.start", "status": status, "headers": [*headers, length]}
        await self.begin(head, {"type": "http.response.body", "body": body})

    async def begin(self, head: Message, first: Message) -> None:
        """Send the head together with the first part of the body in one write."""
        if self.connection is not None and self.scope["method"] != "HEAD":  # the response to HEAD has no body
            self.connection.hold_head()
        await self.send(head)
        await self._send(first)

    async def refuse(self, error: BaseException) -> None:
        """Send an error response, or nothing if a response has started."""
        if isinstance(error, ClientLeft):
            return
        portico_error = errors.to_portico_error(error, self.id)
        if not self.started:
            await self.answer(
                self.shape.status(portico_error),
                self.shape.body(portico_error, self.id),
                errors.headers(portico_error),
            )

    async def break_off(self) -> None:
        """End the response to a revoked key, or of a daemon that stops: with an error if the response has not started,
        otherwise by closing the connection.
        """
        if self.task is not None:
            self.task.uncancel()
        if not self.started:
            await self.refuse(self.revoked or shutting_down())
            return
        if self.connection is not None:
            self.connection.end()

    async def say_end(self) -> None:
        """Send the last frame of a stream whose key was revoked, or of a daemon that stops, if the client is still
        reading.
        """
        if self.started:
            last = self.shape.frame(self.revoked or shutting_down(), self.id)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_FRAME_TIMEOUT_S):
                    await self._send({"type": "http.response.body", "body": last})

    async def stream(
        self, source: Source, headers: RawHeaders = STREAM, *, tells_errors: bool = False
    ) -> None:
        """Send server-sent events: complete frames as they arrive, and comments during silence.

        The head is sent with the first frame, or with the first comment after half `KEEPALIVE_INTERVAL_S`, so an error
        before then keeps its HTTP status. A later error becomes the last frame, unless the frames report errors
        themselves (``tells_errors``). If the client leaves, the frames are closed and the work behind them stops.
        """
        head: Message = {"type": "http.response.start", "status": 200, "headers": headers}
        frames = None if callable(source) else source
        try:
            if (
                self.scope["method"] == "HEAD"
            ):  # without this, the response would wait for a body that is never sent
                await self.send(head)
                await self._send({"type": "http.response.body", "body": b""})
                return
            with Presence(self, head) as presence:
                try:
                    if callable(source):
                        frames = await source(head)
                    assert frames is not None
                    async for frame in frames:
                        piece = {"type": "http.response.body", "body": frame, "more_body": True}
                        await (self._send(piece) if self.started else self.begin(head, piece))
                        presence.sent_recently = True
                except Exception as error:
                    if not self.started:
                        raise
                    portico_error = errors.to_portico_error(error, self.id)
                    if not (tells_errors and frames is not None and isinstance(error, PorticoError)):
                        last = self.shape.frame(portico_error, self.id)
                        await self._send({"type": "http.response.body", "body": last, "more_body": True})
                if not self.started:
                    await self.send(head)
                await self._send({"type": "http.response.body", "body": b""})
        except asyncio.CancelledError:
            await self.say_end()
            raise
        finally:
            if frames is not None:
                await close_source(frames)

    async def pass_on(self, pieces: AsyncIterator[bytes], headers: RawHeaders) -> None:
        """Send bytes that are not events as they arrive.

        An error after the first bytes closes the connection, because it cannot be reported otherwise. If the client
        leaves, ``pieces`` is closed and the work behind it stops.
        """
        try:
            with Presence(self):
                async for piece in pieces:
                    if not self.started:
                        await self.send({"type": "http.response.start", "status": 200, "headers": headers})
                    await self._send({"type": "http.response.body", "body": piece, "more_body": True})
                await self._send({"type": "http.response.body", "body": b""})
        finally:
            await close_source(pieces)


class Presence:
    """A context manager that cancels its block as soon as the client leaves, and then raises `ClientLeft`.

    For a stream, which has a ``head``, it also checks every half `KEEPALIVE_INTERVAL_S` whether ``sent_recently`` was
    set, and sends a comment if not. An internal request has no connection; its creator cancels it.
    """

    __slots__ = (
        "_cancelling",
        "_comment",
        "_exchange",
        "_has_left",
        "_head",
        "_previous_watcher",
        "_task",
        "_timer",
        "sent_recently",
    )

    def __init__(self, exchange: Exchange, head: Message | None = None) -> None:
        self._exchange = exchange
        self._head = head
        self._has_left = False
        self._timer: asyncio.TimerHandle | None = None
        self._comment: asyncio.Task[None] | None = None
        self.sent_recently = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        # Use a callback, and a timer only for streams: a task that waits for both would cost as much as all
        # other checks together.
        if self._exchange.connection is not None:
            self._previous_watcher = self._exchange.connection.watch(self._leave)
        if self._head is not None:
            self._schedule_check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._exchange.connection is not None:
            self._exchange.connection.watch(self._previous_watcher)
        if self._timer is not None:
            self._timer.cancel()
        if self._comment is not None:
            self._comment.cancel()
        if self._has_left and self._task.uncancel() <= self._cancelling:
            raise ClientLeft from None

    def _leave(self) -> None:
        if not self._has_left:
            self._has_left = True
            self._task.cancel()

    def _schedule_check(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(KEEPALIVE_INTERVAL_S / 2, self._check_silence)

    def _check_silence(self) -> None:
        assert self._head is not None
        if not self.sent_recently and (self._comment is None or self._comment.done()):
            self._comment = asyncio.create_task(self._send_keepalive(self._head), name="comment")
        self.sent_recently = False
        self._schedule_check()

    async def _send_keepalive(self, head: Message) -> None:
        if not self._exchange.started:
            await self._exchange.send(head)
        await self._exchange.send(
            {"type": "http.response.body", "body": self._exchange.shape.keep_alive, "more_body": True}
        )


@lru_cache(MAX_NAMED_PROXIES)
def _name_settings(peer: str) -> None:
    """Log once per proxy that the daemon's address in answers is not the one that clients use."""
    logger.warning(
        "the proxy at %s serves https, but addresses in answers have http: set public_url, or add the proxy to "
        "trusted_proxies",
        peer,
    )


async def close_source(pieces: AsyncIterator[bytes]) -> None:
    """Close the source of a response's pieces, which stops the work behind it."""
    close = getattr(pieces, "aclose", None)
    if close is not None:
        await close()


async def ending_in_errors(frames: AsyncIterator[bytes], exchange: Exchange) -> AsyncIterator[bytes]:
    """Yield the frames. If an error occurs, yield it as the last frame."""
    try:
        async for piece in frames:
            yield piece
    except Exception as error:
        if not exchange.started:
            raise
        yield exchange.shape.frame(errors.to_portico_error(error, exchange.id), exchange.id)
    finally:
        await close_source(frames)
