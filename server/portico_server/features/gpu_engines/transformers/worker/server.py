"""The worker's HTTP server: only the daemon can use it, through a loopback port protected by a key."""

from __future__ import annotations

import hmac
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .caller import Caller
from .errors import CallerGone, Refusal

MAX_BODY_BYTES = 256 * 1024 * 1024
"""Maximum size of a request, in bytes. Requests can contain images."""

CONNECTION_TIMEOUT_S = 300.0
"""Seconds after which an idle connection, or a caller that does not accept its response, times out."""

Handler = Callable[[Mapping[str, Any], Caller], Any]
"""Callback for a request's body. Returns a document, a text, or ``None`` if the callback has streamed its answer."""


class WorkerServer(ThreadingHTTPServer):
    """A server that routes POST and GET requests by path to ``posts`` and ``gets``.

    Clients must send ``key``, except to ``/health``.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        key: str,
        posts: Mapping[str, Handler],
        gets: Mapping[str, Callable[[], Any]],
    ) -> None:
        self.expected = f"Bearer {key}".encode() if key else b""
        self.routes = posts
        self.gets = gets
        super().__init__(address, _Exchange)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore broken connections and log all other errors."""
        if not isinstance(sys.exception(), OSError):
            traceback.print_exc()


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "portico-transformers"
    disable_nagle_algorithm = True
    timeout = CONNECTION_TIMEOUT_S
    server: WorkerServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/health":
            self._answer(200, {"status": "ok"})
        elif not self._admitted():
            self._refuse(Refusal("Only the daemon can use this engine.", status=401))
        elif path in self.server.gets:
            self._answer(200, self.server.gets[path]())
        else:
            self._refuse(Refusal(f"The path {path} does not exist.", status=404))

    def do_POST(self) -> None:
        try:
            if not self._admitted():
                raise Refusal("Only the daemon can use this engine.", status=401)
            handler = self.server.routes.get(self.path.partition("?")[0])
            if handler is None:
                raise Refusal(f"The path {self.path[:200]} does not exist.", status=404)
            body = self._body()
        except Refusal as refusal:
            self.close_connection = True  # unread bytes must not be parsed as another request
            self._refuse(refusal)
            return
        client = Caller(self.connection, self.wfile, self._begin_stream)
        try:
            result = handler(body, client)
            if result is not None:
                self._answer(200, result)
        except CallerGone:
            self.close_connection = True
        except Exception as error:  # noqa: BLE001 - whatever a model does wrong must reach its caller
            self._fail(client, error)

    def _fail(self, client: Caller, error: Exception) -> None:
        refusal = error if isinstance(error, Refusal) else _failure(error)
        if not client.streaming:
            self._refuse(refusal)
            return
        if client.raw:
            self.close_connection = True
            return
        try:
            client.event({"error": {**refusal.body()["error"], "code": refusal.status}})
        except CallerGone:
            self.close_connection = True

    def _admitted(self) -> bool:
        authorization = self.headers.get("Authorization", "").encode("utf-8", "replace")
        return hmac.compare_digest(authorization, self.server.expected) or not self.server.expected

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise Refusal("Content-Length is required.", status=411)
        if int(length) > MAX_BODY_BYTES:
            raise Refusal(f"The body has {length} bytes; at most {MAX_BODY_BYTES} are allowed.", status=413)
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise Refusal(f"The body is not JSON: {error}.") from error
        if not isinstance(body, dict):
            raise Refusal("The body must be a JSON object.")
        return body

    def _begin_stream(self, media_type: str) -> None:
        """Start an event stream, or a chunked response of ``media_type``, in which clients can detect a missing end."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", media_type or "text/event-stream")
        if media_type:
            self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()

    def _refuse(self, refusal: Refusal) -> None:
        self._answer(refusal.status, refusal.body())

    def _answer(self, status: int, document: Any) -> None:
        text = document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)
        data = text.encode("utf-8", "replace")
        self.send_response(status)
        kind = "text/plain; charset=utf-8" if isinstance(document, str) else "application/json"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the daemon already logs requests."""


def _failure(error: Exception) -> Refusal:
    traceback.print_exception(error)
    words = " ".join(str(error).split())[:300]
    if type(error).__name__ == "OutOfMemoryError" or "out of memory" in words.lower():
        message = f"The device ran out of memory during this call: {words}"
        return Refusal(message, "out_of_memory", status=HTTPStatus.SERVICE_UNAVAILABLE)
    return Refusal(
        f"{type(error).__name__}: {words}", "engine_failed", status=HTTPStatus.INTERNAL_SERVER_ERROR
    )
