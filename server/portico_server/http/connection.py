"""One connection: how long its client may take to say what it wants, and how large a header may be."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from portico_server.core.errors import PorticoError, Unavailable
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
from portico_server.http.output import Output
from portico_server.http.progress import (
    BODY,
    COMPLETE,
    HEAD,
    MIN_BODY_BYTES_PER_S,
    REFUSED,
    UPGRADED,
    WAITING,
    RequestProgress,
    WriteStall,
)

MAX_QUEUED_REQUESTS: Final = 100
"""Requests of a connection that were sent ahead and wait for the answer of an earlier one. One more closes it."""

MAX_LINGER_S: Final = 2
"""Seconds in which a client that was refused may read why, while what it still sends is dropped."""


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
        self.calls_per_key = connections.bounds.per_key
        """How many calls one key may have in progress over all connections."""
        self._known = False
        self._progress = RequestProgress()
        self._write_stall = WriteStall()
        self._upgrades = False
        self._refusal: PorticoError | None = None
        self.ws_protocol_class = cast("type[asyncio.Protocol]", self._new_websocket)
        self._left: Callable[[], None] | None = None
        """Called when the client leaves while a response is being sent."""

    def admit(self) -> None:
        """Somebody who may call has sent a request on this connection."""
        if not self._known:
            self._known = True
            self._registry.admit(self)

    def watch(self, on_leave: Callable[[], None] | None) -> Callable[[], None] | None:
        """Call ``on_leave`` when the client leaves before its answer is complete, soon if it has left; who was to be
        called until now.
        """
        before, self._left = self._left, on_leave
        if on_leave is not None:
            self.flow.resume_reading()  # a connection that is not read does not end
            if self.cycle.disconnected or self.transport.is_closing():
                self.loop.call_soon(self._notify_client_left)
        return before

    def _new_websocket(self, **options: Any) -> asyncio.Protocol:
        """What uvicorn hands the connection to once its request to become a WebSocket is complete."""
        from portico_server.http.websocket import WebSocketConnection

        self._progress.phase = UPGRADED
        return WebSocketConnection(connection=self, on_leave=lambda: self._registry.leave(self), **options)

    def _notify_client_left(self) -> None:
        if self._left is not None:
            self._left()

    def hold_head(self) -> None:
        """Send the head of the answer, which is to be written next, together with the first of its body."""
        self._output.hold()

    @property
    def idle(self) -> bool:
        """Whether no request is on its way or being answered."""
        return self._progress.phase == WAITING

    def cut(self) -> None:
        """Close it at once: another one needs its place."""
        self._registry.leave(self)
        self.transport.abort()

    def end(self) -> None:
        """Close it in the middle of an answer, after what has been written of it."""
        self.cycle.disconnected = True
        self.transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._output = Output(transport)
        self.address = address_group(self.client[0] if self.client else "")
        if not self._registry.enter(self):
            self._progress.phase = REFUSED
            error = Unavailable(
                "All connections are taken. Try again in a moment.", code="too_many_connections"
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
            return  # dropped: it shall read why, and a connection closed over unread bytes is reset
        super().data_received(data)
        if progress.phase == HEAD and not progress.takes_piece(len(data)):
            self._refuse(HeadersTooLarge())

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope["portico.connection"] = self  # type: ignore[typeddict-unknown-key]
        self._progress.begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the address."""
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            self._refusal = UrlTooLong()
            raise self._refusal

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or what follows a body in pieces."""
        if not self._progress.takes_header(len(name) + len(value) + 4, len(self.headers)):
            self._refusal = HeadersTooLarge()
            raise self._refusal
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The request is handed to the application."""
        if len(self.pipeline) >= MAX_QUEUED_REQUESTS:
            raise httptools.HttpParserError("too many requests were sent ahead")
        self._progress.enter(BODY)
        self._upgrades = bool(self.parser.should_upgrade()) and self._should_upgrade()
        super().on_headers_complete()
        if self._upgrades:
            return  # there is no cycle of a request and its answer
        self.cycle.transport = self._output  # type: ignore[assignment]  # it is as much of one as a cycle needs

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._progress.body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The whole request is here."""
        self._progress.phase = COMPLETE
        super().on_message_complete()
        if not self._upgrades and self.cycle.response_complete:
            self._progress.enter(WAITING)

    def on_response_complete(self) -> None:
        """The answer is written; on to the next request. uvicorn's, with `Connections.sweep` for its timer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._progress.phase == COMPLETE:
            self._progress.enter(WAITING)

    def send_400_response(self, msg: str) -> None:
        """uvicorn's word for what the parser refused."""
        self._refuse(self._refusal or MalformedRequest(f"{msg} Send HTTP/1.1."))

    def tick(self, bounds: ConnectionLimits) -> None:
        """A second has passed."""
        progress = self._progress
        if progress.phase == UPGRADED:
            return  # it has its own
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
                progress.seconds = 0  # of an earlier request; this one is read when that is done
            elif progress.seconds > bounds.header_timeout:
                self._refuse(
                    ClientTooSlow(
                        f"The headers of the request did not come within {bounds.header_timeout:g} s."
                    )
                )
        elif progress.phase == BODY:
            self._watch_body(bounds)
        elif progress.phase == REFUSED and progress.seconds > MAX_LINGER_S:
            self.transport.close()

    @property
    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # nothing before the first request
        return cycle is not None and not cycle.response_complete

    def _watch_body(self, bounds: ConnectionLimits) -> None:
        """A body must come at `MIN_BODY_BYTES_PER_S`, unless it is us who do not read."""
        cycle, progress = self.cycle, self._progress
        if self.flow.read_paused or cycle.waiting_for_100_continue or self.pipeline:
            progress.restart_body()
        elif cycle.response_complete and not self._known and progress.seconds > MAX_LINGER_S:
            self.transport.close()  # it was refused, and continues sending
        elif progress.seconds >= bounds.body_timeout:
            if progress.is_slow_body():
                self._refuse(
                    ClientTooSlow(
                        f"The body came slower than {MIN_BODY_BYTES_PER_S // 1024} KB per second over "
                        f"{bounds.body_timeout:g} s."
                    )
                )
            progress.restart_body()

    def _refuse(self, error: PorticoError) -> None:
        """Say why, unless an answer is on its way, and close."""
        self._progress.enter(REFUSED)
        if self.pipeline:  # the answer on its way is an earlier one's
            self.pipeline.clear()
            self.transport.close()
            return
        answering = self._is_answering
        has_started = answering and self.cycle.response_started
        if answering:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._notify_client_left()
        if has_started or self.transport.is_closing():
            self.transport.close()
            return
        self.transport.write(error_response(error))
        # Half: closed over bytes that were not read, it would be reset, and the client would not read the answer.
        with contextlib.suppress(OSError, RuntimeError):
            self.transport.write_eof()

    def shutdown(self) -> None:
        """The server stops."""
        if self._progress.phase == REFUSED:
            self.transport.close()
        else:
            super().shutdown()
