"""Connections: how many there may be, how long a client may take to say what it wants, and how large a header may be.

A connection is a *stranger* until one request on it was authenticated. Strangers share a part of all connections and
make way for new ones, the oldest first: whoever holds many and says nothing loses them, a caller with a key does not.
Deadlines are counted in rounds of `Connections.sweep`, once a second over all connections: a request costs no timer.
They end where a request is complete: an answer may stream for hours.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, cast

import httptools
import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError, Unavailable
from portico_server.core.ids import new_id
from portico_server.settings import Settings

MAX_HEADERS: Final = 256
MAX_HEADER_BYTES: Final = 64 * 1024
"""Of all headers of a request with its address, as they come over the network."""

MAX_URL_BYTES: Final = 32 * 1024
MAX_QUEUED_REQUESTS: Final = 100
"""Requests of a connection that were sent ahead and wait for the answer of an earlier one. One more closes it."""

MIN_BODY_BYTES_PER_S: Final = 1024
MAX_WRITE_STALL_S: Final = 120
"""Seconds in which a client must take something of an answer that waits for it."""

MAX_LINGER_S: Final = 2
"""Seconds in which a client that was refused may read why, while what it still sends is dropped."""

RESERVED_DESCRIPTOR_COUNT: Final = 256
"""Of the process's file descriptors: for the database, files, indexes and child processes."""

WANTED_DESCRIPTOR_COUNT: Final = 65_536
MAX_CONNECTIONS: Final = 10_000
MIN_CONNECTIONS: Final = 16

_WAITING, _HEAD, _BODY, _COMPLETE, _REFUSED, _UPGRADED = range(6)
"""What of a request has come: nothing yet, a part of its headers, all of them, all of it; or it was refused, or has
become a WebSocket."""


class HeadersTooLarge(PorticoError):
    """The header block is over a limit that the message names."""

    status = 431
    type = "invalid_request_error"
    code = "headers_too_large"


class UrlTooLong(PorticoError):
    """The address in the request line is over the limit."""

    status = 414
    type = "invalid_request_error"
    code = "url_too_long"


class ClientTooSlow(PorticoError):
    """The client did not send its request in the time that it has for it."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"


class MalformedRequest(PorticoError):
    """What came is not HTTP."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_http"


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections there may be, and the seconds that a client has.

    ``strangers`` of all ``connections``, and ``per_address`` of those, may be without an authenticated request. One key
    may have calls in progress on ``per_key`` of them.
    """

    connections: int
    strangers: int
    per_address: int
    per_key: int
    header_timeout: float
    body_timeout: float
    idle_timeout: float

    @classmethod
    def of(cls, settings: Settings) -> ConnectionLimits:
        """From the settings and the file descriptors that this process may have."""
        most = settings.max_connections or _fitting()
        strangers = max(1, most * 3 // 4)
        return cls(
            connections=most,
            strangers=strangers,
            per_address=min(settings.max_connections_per_address or max(1, strangers // 2), strangers),
            per_key=max(1, most // 2),
            header_timeout=settings.header_timeout,
            body_timeout=settings.body_timeout,
            idle_timeout=settings.idle_timeout,
        )


class Connections:
    """All connections of a server. `sweep` is to be called once a second."""

    def __init__(self, bounds: ConnectionLimits) -> None:
        self.bounds = bounds
        self._all: dict[HttpConnection, None] = {}
        self._strangers: dict[HttpConnection, None] = {}  # oldest first, as all dictionaries here
        self._by_address: dict[str, dict[HttpConnection, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def enter(self, connection: HttpConnection) -> bool:
        """Whether a new connection may stay. Another one may have been closed for it."""
        bounds = self.bounds
        neighbours = self._by_address.setdefault(connection.address, {})
        if len(neighbours) >= bounds.per_address:
            next(iter(neighbours)).cut()
        elif len(self._strangers) >= bounds.strangers:
            next(iter(self._strangers)).cut()
        if len(self._all) >= bounds.connections and not self._make_room():
            if not neighbours:
                self._by_address.pop(connection.address, None)
            return False
        # A connection that was cut takes its address's entry along if it was the last.
        self._by_address.setdefault(connection.address, {})[connection] = None
        self._strangers[connection] = None
        self._all[connection] = None
        return True

    def admit(self, connection: HttpConnection) -> None:
        """A request on it was authenticated: it is not a stranger from now on."""
        if self._strangers.pop(connection, connection) is None:
            self._forget_address(connection)

    def leave(self, connection: HttpConnection) -> None:
        """It is closed, or about to be. Harmless if it has left."""
        self._all.pop(connection, None)
        self.admit(connection)

    def sweep(self) -> None:
        """Close those whose time is up."""
        for connection in list(self._all):
            connection.tick(self.bounds)

    def _make_room(self) -> bool:
        """Close the oldest stranger, or else a connection on which nothing happens; whether there was one."""
        spare = next(iter(self._strangers), None) or next((each for each in self._all if each.idle), None)
        if spare is None:
            return False
        spare.cut()
        return True

    def _forget_address(self, connection: HttpConnection) -> None:
        neighbours = self._by_address[connection.address]
        del neighbours[connection]
        if not neighbours:
            del self._by_address[connection.address]


class Output:
    """Where uvicorn writes an answer. A piece that is held goes out with the next one.

    Each write is a system call and a packet: with the head held, a short answer is one of them, not two.
    """

    __slots__ = ("_held", "_holds", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held = b""
        self._holds = False

    def hold(self) -> None:
        """Keep what is written next until something else is written, or the connection is closed."""
        self._holds = True

    def write(self, data: bytes) -> None:
        """See `asyncio.WriteTransport`."""
        if self._holds:
            self._holds = False
            self._held = data
        elif self._held:
            held, self._held = self._held, b""
            self._transport.write(held + data)
        else:
            self._transport.write(data)

    def close(self) -> None:
        """See `asyncio.BaseTransport`."""
        self.write(b"")
        self._transport.close()

    def is_closing(self) -> bool:
        """See `asyncio.BaseTransport`."""
        return self._transport.is_closing()


class HttpConnection(HttpToolsProtocol):
    """uvicorn's HTTP over httptools, with deadlines and bounds for what a client sends.

    ``scope["portico.connection"]`` is it: who authenticates a request calls `admit`, who answers it may `watch`.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connections: Connections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.address = ""
        self._registry = connections
        self._known = False
        self._phase = _WAITING
        self._ticks = 0
        """Rounds in this phase, or since the body last had enough."""
        self._stalled = 0
        self._unsent = 0
        self._head_bytes = 0
        self._unparsed = 0
        self._receiving = False
        self._body_bytes = 0
        self._refusal: PorticoError | None = None
        self.ws_protocol_class = cast("type[asyncio.Protocol]", self._new_websocket)
        self._left: Callable[[], None] | None = None
        """Called when the client leaves while a response is being sent."""

    def admit(self) -> None:
        """Somebody who may call has sent a request on this connection."""
        if not self._known:
            self._known = True
            self._registry.admit(self)

    def watch(self, left: Callable[[], None] | None) -> Callable[[], None] | None:
        """Call ``left`` when the client leaves before its answer is complete, soon if it has left; who was to be
        called until now.
        """
        before, self._left = self._left, left
        if left is not None:
            self.flow.resume_reading()  # a connection that is not read does not end
            if self.cycle.disconnected or self.transport.is_closing():
                self.loop.call_soon(self._notify_client_left)
        return before

    def _new_websocket(self, **given: Any) -> asyncio.Protocol:
        """What uvicorn hands the connection to once its request to become a WebSocket is complete."""
        from portico_server.websocket_connection import WebSocketConnection

        self._phase = _UPGRADED
        return WebSocketConnection(connection=self, left=lambda: self._registry.leave(self), **given)

    @property
    def _upgrades(self) -> bool:
        return bool(self.parser.should_upgrade()) and self._should_upgrade()

    def _notify_client_left(self) -> None:
        if self._left is not None:
            self._left()

    @property
    def calls_per_key(self) -> int:
        """How many calls one key may have in progress over all connections."""
        return self._registry.bounds.per_key

    def hold_head(self) -> None:
        """Send the head of the answer, which is to be written next, together with the first of its body."""
        self._output.hold()

    @property
    def idle(self) -> bool:
        """Whether no request is on its way or being answered."""
        return self._phase == _WAITING

    def cut(self) -> None:
        """Close it at once: another one needs its place."""
        self._registry.leave(self)
        self.transport.abort()

    def end(self) -> None:
        """Close it in the middle of an answer, after what has been written of it."""
        self.cycle.disconnected = True
        self.transport.close()

    # --- asyncio's side -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._output = Output(transport)
        self.address = _group(self.client[0] if self.client else "")
        if not self._registry.enter(self):
            self._phase = _REFUSED
            self._write_error(
                Unavailable("All connections are taken. Try again in a moment.", code="too_many_connections")
            )
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._registry.leave(self)
        super().connection_lost(exc)
        self._notify_client_left()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._phase == _REFUSED:
            return  # dropped: it shall read why, and a connection closed over unread bytes is reset
        super().data_received(data)
        if self._phase == _HEAD:
            # The parser reports complete headers only; one that does not end is counted here. The piece with which the
            # request begins is not counted: the end of an earlier request may be in it.
            self._unparsed += len(data) if self._receiving else 0
            self._receiving = True
            if self._unparsed > MAX_HEADER_BYTES:
                self._refuse(_large())

    # --- the parser's side ----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope["portico.connection"] = self  # type: ignore[typeddict-unknown-key]
        self._phase = _HEAD
        self._receiving = False
        self._ticks = self._head_bytes = self._unparsed = self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the address."""
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            self._refusal = UrlTooLong(f"The address is longer than {MAX_URL_BYTES // 1024} KB.")
            raise self._refusal

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or what follows a body in pieces."""
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > MAX_HEADER_BYTES or len(self.headers) >= MAX_HEADERS:
            self._refusal = _large()
            raise self._refusal
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The request is handed to the application."""
        if len(self.pipeline) >= MAX_QUEUED_REQUESTS:
            raise httptools.HttpParserError("too many requests were sent ahead")
        self._phase = _BODY
        self._ticks = 0
        super().on_headers_complete()
        if self._upgrades:
            return  # there is no cycle of a request and its answer
        self.cycle.transport = self._output  # type: ignore[assignment]  # it is as much of one as a cycle needs

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The whole request is here."""
        self._phase = _COMPLETE
        super().on_message_complete()
        if not self._upgrades and self.cycle.response_complete:
            self._await_next()

    def on_response_complete(self) -> None:
        """The answer is written; on to the next request. uvicorn's, with `Connections.sweep` for its timer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._phase == _COMPLETE:
            self._await_next()

    def _await_next(self) -> None:
        self._phase = _WAITING
        self._ticks = 0

    def send_400_response(self, msg: str) -> None:
        """uvicorn's word for what the parser refused."""
        self._refuse(self._refusal or MalformedRequest(f"{msg} Send HTTP/1.1."))

    # --- deadlines ------------------------------------------------------------------------------------------

    def tick(self, bounds: ConnectionLimits) -> None:
        """A second has passed."""
        if self._phase == _UPGRADED:
            return  # it has its own
        self._watch_writes()
        self._ticks += 1
        if self._phase == _WAITING:
            answered = self.cycle is not None
            if self._ticks > (bounds.idle_timeout if answered else bounds.header_timeout):
                self.transport.close()
        elif self._phase == _HEAD:
            if self._is_answering:
                self._ticks = 0  # of an earlier request; this one is read when that is done
            elif self._ticks > bounds.header_timeout:
                self._refuse(
                    ClientTooSlow(
                        f"The headers of the request did not come within {bounds.header_timeout:g} s."
                    )
                )
        elif self._phase == _BODY:
            self._watch_body(bounds)
        elif self._phase == _REFUSED and self._ticks > MAX_LINGER_S:
            self.transport.close()

    @property
    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # nothing before the first request
        return cycle is not None and not cycle.response_complete

    def _watch_body(self, bounds: ConnectionLimits) -> None:
        """A body must come at `MIN_BODY_BYTES_PER_S`, unless it is us who do not read."""
        cycle = self.cycle
        if self.flow.read_paused or cycle.waiting_for_100_continue or self.pipeline:
            self._ticks = self._body_bytes = 0
        elif cycle.response_complete and not self._known and self._ticks > MAX_LINGER_S:
            self.transport.close()  # it was refused, and continues sending
        elif self._ticks >= bounds.body_timeout:
            if self._body_bytes < MIN_BODY_BYTES_PER_S * self._ticks:
                self._refuse(
                    ClientTooSlow(
                        f"The body came slower than {MIN_BODY_BYTES_PER_S // 1024} KB per second over "
                        f"{bounds.body_timeout:g} s."
                    )
                )
            self._ticks = self._body_bytes = 0

    def _watch_writes(self) -> None:
        """End a connection whose client takes nothing of what waits for it."""
        if not (self.flow.write_paused or self.transport.is_closing()):
            self._stalled = 0
            return
        unsent = self.transport.get_write_buffer_size()
        self._stalled = self._stalled + 1 if unsent == self._unsent else 0
        self._unsent = unsent
        if self._stalled > MAX_WRITE_STALL_S:
            self.transport.abort()

    def _refuse(self, error: PorticoError) -> None:
        """Say why, unless an answer is on its way, and close."""
        self._phase = _REFUSED
        self._ticks = 0
        if self.pipeline:  # the answer on its way is an earlier one's
            self.pipeline.clear()
            self.transport.close()
            return
        answering = self._is_answering
        started = answering and self.cycle.response_started
        if answering:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._notify_client_left()
        if started or self.transport.is_closing():
            self.transport.close()
            return
        self._write_error(error)
        # Half: closed over bytes that were not read, it would be reset, and the client would not read the answer.
        with contextlib.suppress(OSError, RuntimeError):
            self.transport.write_eof()

    def _write_error(self, error: PorticoError) -> None:
        body = orjson.dumps(error.body().to_json())
        head = (
            f"HTTP/1.1 {error.status} {_REASONS[error.status]}\r\ncontent-type: application/json\r\n"
            f"x-content-type-options: nosniff\r\nx-request-id: {new_id('req_')}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)

    def shutdown(self) -> None:
        """The server stops."""
        if self._phase == _REFUSED:
            self.transport.close()
        else:
            super().shutdown()


_REASONS: Final = {
    400: "Bad Request",
    408: "Request Timeout",
    414: "URI Too Long",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


def raise_descriptor_limit() -> int:
    """Let this process have as many file descriptors as it may, up to `WANTED_DESCRIPTOR_COUNT`; how many that is."""
    try:
        import resource
    except ImportError:  # not on Windows
        return WANTED_DESCRIPTOR_COUNT
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return WANTED_DESCRIPTOR_COUNT
    wanted = WANTED_DESCRIPTOR_COUNT if hard == resource.RLIM_INFINITY else min(hard, WANTED_DESCRIPTOR_COUNT)
    # macOS promises any number and then grants no more than this.
    for most in (wanted, 10_240):
        if soft < most <= wanted:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
                return most
    return soft


def _fitting() -> int:
    """Connections that fit into the file descriptors, with `RESERVED_DESCRIPTOR_COUNT` for everything else."""
    try:
        import resource
    except ImportError:
        return MAX_CONNECTIONS
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(MIN_CONNECTIONS, (soft - RESERVED_DESCRIPTOR_COUNT) * 3 // 4))


def _group(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 of an IPv6 one, which one client has whole."""
    if ":" not in address:
        return address
    try:
        known = cast("IPv6Address", ip_address(address.partition("%")[0]))
    except ValueError:
        return address
    if known.ipv4_mapped:
        return str(known.ipv4_mapped)
    return known.exploded[:19]


def _large() -> HeadersTooLarge:
    return HeadersTooLarge(
        f"The headers are larger than {MAX_HEADER_BYTES // 1024} KB or more than {MAX_HEADERS}; send less of them."
    )
