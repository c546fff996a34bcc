"""One HTTP request and its response on raw ASGI: it carries every protocol adapter, and is all the hot path has."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeAlias

from portico_server.api import errors
from portico_server.api.auth.protected_resource import address
from portico_server.api.error_shape import OPENAI, Shape
from portico_server.api.errors import RawHeaders
from portico_server.api.json_body import parse_in_turn
from portico_server.core.errors import InvalidRequest, PorticoError, TooLarge, TooMany
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.runs.quotas import UsageMeter
from portico_server.settings import MB_BYTES, Settings

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

KEEPALIVE_INTERVAL_S = 15.0
"""The longest silence in a stream, in seconds: a sign of life breaks it, so that no proxy takes it for dead."""

LAST_FRAME_TIMEOUT_S = 1.0

NO_SNIFFING = (b"x-content-type-options", b"nosniff")
"""No browser takes an answer for something else than it says it is, such as text from a model for a page."""


MAX_BODIES_PER_KEY: Final = 8
"""How many of the largest bodies the calls that one key has in progress may have together, with the messages that wait
on its WebSockets. A form counts too, unless it goes to the disk piece by piece.
"""


JSON: RawHeaders = [(b"content-type", b"application/json")]

STREAM: RawHeaders = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class ClientLeft(Exception):
    """The client has closed the connection: nobody is there to be answered."""


class ClientConnection(Protocol):
    """What an exchange asks of the connection that it is on."""

    @property
    def calls_per_key(self) -> int:
        """How many calls one key may have in progress over connections such as this."""

    def admit(self) -> None:
        """Somebody who may call has sent a request on it."""

    def watch(self, on_leave: Callable[[], None] | None) -> Callable[[], None] | None:
        """Call ``on_leave`` when the client leaves before its answer is complete; who was to be called until now."""

    def hold_head(self) -> None:
        """Send the head of the answer, which is to be written next, together with the first of its body."""

    def end(self) -> None:
        """Close it in the middle of an answer."""


class KeyCalls(set["Exchange"]):
    """The calls of one key that are in progress, and how many bytes their bodies have together."""

    def __init__(self) -> None:
        super().__init__()
        self.body_bytes = 0


class Exchange:
    """``receive`` counts the body against ``limit`` bytes; ``send`` adds the headers of every response.

    ``shape`` is the form of errors.
    """

    __slots__ = (
        "_held",
        "_receive",
        "_received",
        "_replay",
        "_send",
        "_share",
        "_to_disk",
        "beside",
        "caller",
        "connection",
        "expires_at",
        "expiry",
        "extra",
        "form_limit",
        "headers",
        "id",
        "limit",
        "meter",
        "parsed",
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
        """``None`` for a request from within, such as one of a batch."""
        headers: RawHeaders = scope["headers"]
        self.headers = dict(headers)
        """By their names in lower case; the first one where a name comes more than once."""
        if self.repeats_headers:
            self.headers = dict(reversed(headers))
        self.id = new_id("req_")
        self.limit = limit
        self.form_limit = limit
        """Bytes that a form may have, once somebody takes one: see `take_form`."""
        self._share = MAX_BODIES_PER_KEY * limit
        self._to_disk = False
        self.started = False
        self.status = 0
        """That of the response, once it has started."""
        request_id = self.id.encode()
        self.extra: RawHeaders = [NO_SNIFFING, *[(name, request_id) for name in shape.ids]]
        self.caller: Principal | None = None
        self.meter: UsageMeter | None = None
        """What the caller's key has left, if it has limits; sent with every response."""
        self.task: asyncio.Task[None] | None = None
        """Who answers, where that can be ended."""
        self.expires_at = 0.0
        """When the token of the caller expires, in seconds since 1970; 0: it has none."""
        self.role = ""
        """The one that the caller's token gives."""
        self.expiry: asyncio.TimerHandle | None = None
        """What ends the call then."""
        self.sign_in = ""
        """Of a page in which the caller is signed in: the hash of that sign-in."""
        self.renew: Callable[[], Awaitable[float]] | None = None
        """Until when the call continues beyond that, where it may."""
        self.beside: KeyCalls | None = None
        """All calls of the caller's key, where those are bounded; this one is among them."""
        self.revoked: PorticoError | None = None
        """Why it was cancelled, if its key was revoked meanwhile."""
        self.parsed: Any = None
        """The JSON value of a body that was read ahead."""
        self._received = 0
        self._held = 0
        self._replay: Message | None = None

    @property
    def repeats_headers(self) -> bool:
        """Whether a header comes more than once."""
        return len(self.headers) < len(self.scope["headers"])

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header; ``name`` in lower case."""
        return self.headers.get(name)

    def base_url(self, settings: Settings) -> str:
        """The daemon as this client sees it, without a slash at the end."""
        host = self.header(b"host")
        return address(settings, self.scope.get("scheme", "http"), host.decode("latin-1") if host else None)

    async def receive(self) -> Message:
        """The next ASGI message. Raises `TooLarge` as soon as the body is over the limit."""
        if self._replay is not None:
            message, self._replay = self._replay, None
            return message
        message = await self._receive()
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self._received += size
            if self._received > self.limit:
                raise self.too_large()
            if not self._to_disk:
                self.hold(self._received)
        return message

    def take_form(self, max_bytes: int | None = None, *, to_disk: bool = False) -> None:
        """The body is a form, which may be larger than JSON: ``max_bytes``, or as many as the largest file has.

        ``to_disk``: it is not kept in memory, and counts for nothing. Whoever does not say so reads a body of the
        common size, whatever its type is called.
        """
        self.limit = self.form_limit if max_bytes is None else min(self.form_limit, max_bytes)
        self._to_disk = to_disk

    def hold(self, size: int) -> None:
        """Count so many bytes in all as in memory for this call, until `release`. Raises `TooMany` beyond the key's
        share.
        """
        beside = self.beside
        if beside is None:
            return
        extra_bytes = size - self._held
        if extra_bytes > 0 and beside.body_bytes + extra_bytes > max(self._share, self.limit):
            raise TooMany(
                f"The calls of this API key that are in progress have bodies of {beside.body_bytes // MB_BYTES} MB "
                "together, which is the most that one key may have. Wait for one to end.",
                code="too_many_at_once",
                retry_after=1.0,
            )
        beside.body_bytes += extra_bytes
        self._held = size

    def release(self) -> None:
        """The call has ended: its body is held no longer."""
        if self.beside is not None:
            self.beside.body_bytes -= self._held
            self.beside, self._held = None, 0

    def too_large(self, limit: int | None = None) -> TooLarge:
        return TooLarge(
            f"The body is larger than {(limit or self.limit) // MB_BYTES} MB, the most that this path takes."
        )

    async def body(self) -> bytes:
        """The whole body. Raises `ClientLeft` if the client leaves before its end."""
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
        """The body as a JSON object; `InvalidRequest` for anything else."""
        self.require_json_type()
        raw = await self.body()
        value = await parse_in_turn(raw)
        if not isinstance(value, dict):
            raise InvalidRequest(
                "The body must be a JSON object." if raw else "The body is empty; it must be a JSON object.",
                code="invalid_json",
            )
        return value

    async def check_json(self) -> None:
        """Read a JSON body ahead and parse it; it is then received again as if it were new."""
        raw = await self.body()
        if raw:
            self.require_json_type()
            self.parsed = await parse_in_turn(raw)
        self._replay = {"type": "http.request", "body": raw, "more_body": False}

    @property
    def is_form(self) -> bool:
        """Whether the body is an uploaded form, which its endpoint reads in pieces."""
        return (self.header(b"content-type") or b"").startswith(b"multipart/form-data")

    def require_json_type(self) -> None:
        """`InvalidRequest` unless the content type is JSON's, or none is given."""
        encoding = self.header(b"content-encoding")
        if encoding is not None and encoding.lower() != b"identity":
            raise InvalidRequest(
                f"The body has the content encoding '{encoding.decode('latin-1')[:80]}'; send it without one.",
                code="unsupported_content_encoding",
            )
        raw = self.header(b"content-type")
        if raw is None or raw == b"application/json":
            return
        kind = raw.partition(b";")[0].strip().lower()
        if kind != b"application/json" and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
            raise InvalidRequest(
                f"The content type '{kind.decode('latin-1')}' is not taken here; send application/json.",
                code="unsupported_content_type",
            )

    async def send(self, message: Message) -> None:
        """Send an ASGI message; the first one gets the headers in ``extra``."""
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self.extra]
            if self.meter is not None:
                message["headers"] += self.meter.headers()
        await self._send(message)

    async def answer(self, status: int, body: bytes, headers: RawHeaders = JSON) -> None:
        """A whole response."""
        length = (b"content-length", str(len(body)).encode())
        head = {"type": "http.response.start", "status": status, "headers": [*headers, length]}
        await self.begin(head, {"type": "http.response.body", "body": body})

    async def begin(self, head: Message, first: Message) -> None:
        """The head and the first of the body, which follows at once: one write for both."""
        if self.connection is not None and self.scope["method"] != "HEAD":  # its body is not written
            self.connection.hold_head()
        await self.send(head)
        await self._send(first)

    async def refuse(self, error: BaseException) -> None:
        """An error response; nothing once a response has started."""
        if isinstance(error, ClientLeft):
            return
        portico_error = errors.ours(error, self.id)
        if not self.started:
            await self.answer(
                self.shape.status(portico_error),
                self.shape.body(portico_error, self.id),
                errors.headers(portico_error),
            )

    async def break_off(self) -> None:
        """End an answer whose key was revoked: with an error if it has not started, else by closing the connection."""
        assert self.revoked is not None
        if self.task is not None:
            self.task.uncancel()
        if not self.started:
            await self.refuse(self.revoked)
            return
        if self.connection is not None:
            self.connection.end()

    async def say_revoked(self) -> None:
        """The last frame of a stream whose key was revoked, if its client takes it."""
        if self.revoked is not None and self.started:
            last = self.shape.frame(self.revoked, self.id)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_FRAME_TIMEOUT_S):
                    await self._send({"type": "http.response.body", "body": last, "more_body": True})

    async def stream(
        self, frames: AsyncIterator[bytes], headers: RawHeaders = STREAM, *, tells_errors: bool = False
    ) -> None:
        """Server-sent events: complete frames, sent as they come, with comments while it is quiet.

        The head goes out with the first frame, or when it was quiet for too long: an error before that keeps
        its status. A later one becomes a last frame, unless whoever makes the frames ``tells_errors`` itself.
        If the client leaves, ``frames`` are closed, and with them the work behind.
        """
        head = {"type": "http.response.start", "status": 200, "headers": headers}
        try:
            if self.scope["method"] == "HEAD":  # it would stay open for a body that nobody is sent
                await self.send(head)
                await self._send({"type": "http.response.body", "body": b""})
                return
            with Presence(self, head) as presence:
                try:
                    async for frame in frames:
                        piece = {"type": "http.response.body", "body": frame, "more_body": True}
                        await (self._send(piece) if self.started else self.begin(head, piece))
                        presence.sent_recently = True
                except Exception as error:
                    if not self.started:
                        raise
                    portico_error = errors.ours(error, self.id)
                    if not (tells_errors and isinstance(error, PorticoError)):
                        last = self.shape.frame(portico_error, self.id)
                        await self._send({"type": "http.response.body", "body": last, "more_body": True})
                if not self.started:
                    await self.send(head)
                await self._send({"type": "http.response.body", "body": b""})
        except asyncio.CancelledError:
            await self.say_revoked()
            raise
        finally:
            await close_source(frames)

    async def pass_on(self, pieces: AsyncIterator[bytes], headers: RawHeaders) -> None:
        """Bytes that are not events, sent as they come. An error in the middle breaks the connection off: that is all
        that can be said there. If the client leaves, ``pieces`` are closed, and with them the work behind.
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
    """Cancels the block inside as soon as the client leaves, and raises `ClientLeft` then.

    In a stream, which has a ``head``, it also looks twice in each `KEEPALIVE_INTERVAL_S` seconds whether ``heard`` was
    set, and sends a comment if not. A request from within has no connection: whoever made it cancels it.
    """

    __slots__ = (
        "_before",
        "_cancelling",
        "_comment",
        "_exchange",
        "_head",
        "_left",
        "_task",
        "_timer",
        "sent_recently",
    )

    def __init__(self, exchange: Exchange, head: Message | None = None) -> None:
        self._exchange = exchange
        self._head = head
        self._left = False
        self._timer: asyncio.TimerHandle | None = None
        self._comment: asyncio.Task[None] | None = None
        self.sent_recently = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        # A callback, and a timer for streams alone: a task that waits for either would cost as much as all checks.
        if self._exchange.connection is not None:
            self._before = self._exchange.connection.watch(self._leave)
        if self._head is not None:
            self._schedule_check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._exchange.connection is not None:
            self._exchange.connection.watch(self._before)
        if self._timer is not None:
            self._timer.cancel()
        if self._comment is not None:
            self._comment.cancel()
        if self._left and self._task.uncancel() <= self._cancelling:
            raise ClientLeft from None

    def _leave(self) -> None:
        if not self._left:
            self._left = True
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


async def close_source(pieces: AsyncIterator[bytes]) -> None:
    """Close what makes the pieces of an answer, and with it the work behind."""
    close = getattr(pieces, "aclose", None)
    if close is not None:
        await close()
