"""One HTTP connection, with deadlines for the client and a maximum size of the headers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from portico_server.core.errors import PorticoError, Unavailable
from portico_server.http import forwarded
from portico_server.http.connections import Connections, address_group
from portico_server.http.errors import (
    MAX_URL_BYTES,
    ClientTooSlow,
    HeadersTooLarge,
    MalformedRequest,
    UrlTooLong,
    error_response,
)
from portico_server.http.limits import ConnectionLimits
from portico_server.http.output import Output, end_writing
from portico_server.http.progress import (
    BODY,
    COMPLETE,
    HEAD,
    MAX_LINGER_S,
    MIN_BODY_BYTES_PER_S,
    REFUSED,
    UPGRADED,
    WAITING,
    RequestProgress,
    WriteStall,
)
from portico_server.http.proxy_protocol import read_header

MAX_QUEUED_REQUESTS: Final = 100
"""Maximum number of pipelined requests that wait on a connection. Another request closes the connection."""


class HttpConnection(HttpToolsProtocol):
    """uvicorn's httptools protocol for HTTP, with deadlines and limits for clients.

    ``scope["portico.connection"]`` is the connection. Authentication calls `admit`, and a request handler can call
    `watch`.
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
        self.calls_per_key = connections.bounds.per_key
        """Maximum number of concurrent calls per key, over all connections."""
        self._is_tracked = False
        self._progress = RequestProgress()
        self._write_stall = WriteStall()
        self._upgrades = False
        self._refusal: PorticoError | None = None
        self.ws_protocol_class = cast("type[asyncio.Protocol]", self._new_websocket)
        self._opening: bytes | None = None
        """The first bytes from a trusted proxy, until it is known whether they are a header of the PROXY protocol."""
        self._is_forwarding = False
        """Whether the headers of requests say where they come from, because a trusted proxy sends them."""
        self._is_proxied = False
        """Whether a header of the PROXY protocol has named the client."""
        self._on_leave: Callable[[], None] | None = None
        """Called if the client disconnects before its response is complete."""

    def admit(self) -> None:
        """Mark the connection as authenticated."""
        if not self._is_tracked:
            self._is_tracked = True
            self._registry.admit(self)

    def watch(self, on_leave: Callable[[], None] | None) -> Callable[[], None] | None:
        """Call ``on_leave`` when the client disconnects before its response is complete. If the client has already
        disconnected, call it in the next iteration of the event loop.

        Returns the previous callback.
        """
        before, self._on_leave = self._on_leave, on_leave
        if on_leave is not None:
            self.flow.resume_reading()  # a disconnect is detected only while the connection is read
            if self.cycle.disconnected or self.transport.is_closing():
                self.loop.call_soon(self._notify_client_left)
        return before

    def _new_websocket(self, **options: Any) -> asyncio.Protocol:
        """Create the protocol to which uvicorn hands the connection after a WebSocket upgrade request."""
        from portico_server.http.websocket import WebSocketConnection

        self._progress.phase = UPGRADED
        return WebSocketConnection(connection=self, on_leave=lambda: self._registry.leave(self), **options)

    def _should_upgrade(self) -> bool:
        """Return whether the request opens a WebSocket. HTTP/1.0 has no upgrades (RFC 9110, section 7.8), and the scope
        of a WebSocket would not say that the request came in HTTP/1.0.
        """
        return self.parser.get_http_version() == "1.1" and super()._should_upgrade()

    def _notify_client_left(self) -> None:
        if self._on_leave is not None:
            self._on_leave()

    def hold_head(self) -> None:
        """Send the head of the next response together with the first part of its body."""
        self._output.hold()

    @property
    def phase(self) -> int:
        """The phase of the newest request."""
        return self._progress.phase

    def cut(self) -> None:
        """Close the connection immediately to make room for another."""
        self._registry.leave(self)
        self.transport.abort()

    def end(self) -> None:
        """Close the connection in the middle of a response, after sending the data written so far."""
        self.cycle.disconnected = True
        self.transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._output = Output(transport, self._progress)
        peer = self.client[0] if self.client else None
        if self._registry.proxies.trusts(peer):
            self._opening, self._is_forwarding = b"", True
        else:
            self.address = address_group(peer or "")
        if not self._registry.enter(self):
            self._progress.phase = REFUSED
            error = Unavailable(
                "All connections are in use. Try again in a moment.", code="too_many_connections"
            )
            self.transport.write(error_response(error))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._registry.leave(self)
        super().connection_lost(exc)
        self._notify_client_left()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        progress = self._progress
        if progress.phase == REFUSED:
            return  # discarded: the client must read the error, and closing with unread bytes resets the connection
        if self._opening is not None and not (data := self._read_opening(self._opening + data)):
            return
        super().data_received(data)
        if progress.phase == UPGRADED and not data.endswith(b"\n"):
            # bytes after the head, which uvicorn drops: a client must not send them before the handshake is complete
            self.transport.close()
        if progress.phase == HEAD and not progress.takes_piece(len(data)):
            self._refuse(HeadersTooLarge())

    def _read_opening(self, data: bytes) -> bytes:
        """Read the header of the PROXY protocol, if the connection begins with one. Return the bytes after it."""
        try:
            header = read_header(data)
        except ValueError as error:
            self._refuse(MalformedRequest(f"Invalid PROXY header: {error}."))
            return b""
        self._opening = data if header is None else None
        if header is None:
            return b""
        if header.client:
            self.client = (header.client, 0)
            self._is_proxied = True
            self._is_forwarding = self._registry.proxies.trusts(header.client)
            self._registry.move(self, address_group(header.client))
        if header.is_tls:
            self.scheme = "https"
        return data[header.size :]

    def _name_origin(self) -> None:
        """Make the request say where it comes from, as a trusted proxy reports it."""
        origin = self._registry.proxies.origin(self.headers, self.client[0] if self.client else "")
        if origin is not None:
            forwarded.apply(origin, self.scope)
            self._registry.move(self, address_group(origin.client))

    def on_message_begin(self) -> None:
        """Handle the beginning of a request."""
        super().on_message_begin()
        self.scope["portico.connection"] = self  # type: ignore[typeddict-unknown-key]
        if self._is_proxied:
            self.scope["portico.proxied"] = True  # type: ignore[typeddict-unknown-key]
        self._progress.begin()

    def on_url(self, url: bytes) -> None:
        """Handle a piece of the URL."""
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            self._refusal = UrlTooLong()
            raise self._refusal

    def on_header(self, name: bytes, value: bytes) -> None:
        """Handle a header or, after a chunked body, a trailer."""
        if not self._progress.takes_header(len(name) + len(value) + 4, len(self.headers)):
            self._refusal = HeadersTooLarge()
            raise self._refusal
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Hand the request to the application."""
        if len(self.pipeline) >= MAX_QUEUED_REQUESTS:
            raise httptools.HttpParserError("too many pipelined requests")
        self._progress.enter(BODY)
        if self._is_forwarding:
            self._name_origin()
        self._upgrades = bool(self.parser.should_upgrade()) and self._should_upgrade()
        super().on_headers_complete()
        if self._upgrades:
            return  # an upgraded request has no request-response cycle
        self.cycle.transport = self._output  # type: ignore[assignment]  # it is as much of one as a cycle needs
        if self._registry.is_closing:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Handle a piece of the body."""
        self._progress.body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Handle the end of a request."""
        self._progress.phase = COMPLETE
        if self._output.has_ended:
            self.transport.close()
            return
        super().on_message_complete()
        if not self._upgrades and self.cycle.response_complete:
            self._progress.enter(WAITING)

    def on_response_complete(self) -> None:
        """Continue with the next request after a response has been written.

        Replaces uvicorn's method, because deadlines are counted by `Connections.sweep` instead of timers.
        """
        self.server_state.total_requests += 1
        self._registry.note_answer()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._progress.phase == BODY:
            self._progress.restart_body()
        if self._output.has_ended:
            self.pipeline.clear()
        elif self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._progress.phase == COMPLETE:
            self._progress.enter(WAITING)

    def send_400_response(self, msg: str) -> None:
        """Send the error response for a request that the parser rejected."""
        self._refuse(self._refusal or MalformedRequest(f"{msg} Send HTTP/1.1."))

    def tick(self, bounds: ConnectionLimits) -> None:
        """Check the deadlines; called once a second."""
        progress = self._progress
        if progress.phase == UPGRADED:
            return  # a WebSocket has its own deadlines
        if not (self.flow.write_paused or self.transport.is_closing()):
            self._write_stall.end()
        elif self._write_stall.is_over(self.transport.get_write_buffer_size()):
            self.transport.abort()
        progress.seconds += 1
        if progress.phase == WAITING:
            has_answered = self.cycle is not None
            if progress.seconds > (bounds.idle_timeout if has_answered else bounds.header_timeout):
                self.transport.close()
        elif progress.phase == HEAD:
            if self._is_answering:
                # an earlier request is still being answered; the time starts when its
                # response is complete
                progress.seconds = 0
            elif progress.seconds > bounds.header_timeout:
                self._refuse(
                    ClientTooSlow(f"The request headers did not arrive within {bounds.header_timeout:g} s.")
                )
        elif progress.phase == BODY:
            self._watch_body(bounds)
        elif progress.phase == REFUSED and progress.seconds > MAX_LINGER_S:
            self.transport.close()

    @property
    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete

    def _watch_body(self, bounds: ConnectionLimits) -> None:
        """Require the body to arrive at a rate of at least `MIN_BODY_BYTES_PER_S`, except while the daemon itself
        pauses reading.
        """
        cycle, progress = self.cycle, self._progress
        if cycle.response_complete:
            if progress.is_drained():
                self.transport.close()
        elif self.flow.read_paused or cycle.waiting_for_100_continue or self.pipeline:
            progress.restart_body()
        elif progress.seconds >= bounds.body_timeout:
            if progress.is_slow_body():
                self._refuse(
                    ClientTooSlow(
                        f"The body arrived at less than {MIN_BODY_BYTES_PER_S // 1024} KB per second over "
                        f"{bounds.body_timeout:g} s."
                    )
                )
            progress.restart_body()

    def _refuse(self, error: PorticoError) -> None:
        """Send the error unless a response is in progress, and close the connection."""
        self._progress.enter(REFUSED)
        if (
            self.pipeline
        ):  # the response in progress belongs to an earlier request, so the error cannot be sent
            self.pipeline.clear()
            self.transport.close()
            return
        answering = self._is_answering
        has_started = answering and self.cycle.response_started
        if answering:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._notify_client_left()
        if has_started or self._output.has_ended or self.transport.is_closing():
            self.transport.close()
            return
        self.transport.write(error_response(error))
        # Close only the write side: closing a connection with unread bytes resets it, and the client could
        # not read the response.
        end_writing(self.transport)

    def shutdown(self) -> None:
        """Handle the shutdown of the server."""
        if self._progress.phase == REFUSED:
            self.transport.close()
        else:
            super().shutdown()
