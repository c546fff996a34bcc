"""The outside world of a daemon, as a test sees it: an HTTP service in this process that counts its effects."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Outside:
    """An HTTP service that counts its effects.

    ``POST /effect`` does something once per ``Idempotency-Key``. ``/hold`` and the model behind ``/v1`` never finish
    their answers, unless ``answers`` are set. ``/until-held`` answers when either of them is called. ``/flaky/NAME/N``
    fails N times. ``GET`` of a path in ``documents`` returns the document.
    """

    def __init__(self) -> None:
        self.effects: dict[str, str] = {}
        """Effects done, by key."""
        self.calls: Counter[str] = Counter()
        """Number of requests, by key or by path."""
        self.told: list[str] = []
        """Keys whose body differed from an earlier request."""
        self.answers: list[dict[str, Any] | None] = []
        """The model's next answers, as deltas; ``None`` for an answer that never ends."""
        self.asked: list[Any] = []
        """The messages of the requests to a model with answers."""
        self.documents: dict[str, Any] = {}
        """JSON documents by path."""
        self.end_effect: Callable[[Callable[[], None]], None] = lambda respond: respond()
        """Called after each effect, with a function that sends the response."""
        self.held = threading.Semaphore(0)
        """Released by each call that is held."""
        self.left = threading.Semaphore(0)
        """Released when the caller gives up a held call."""
        self.lock = threading.Condition()
        """Notified of each requested effect, of each GET, and of each request to a model with answers."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Outside:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(outside: Outside) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # method name required by the library
            with outside.lock:
                outside.calls[self.path] += 1
                times = outside.calls[self.path]
                outside.lock.notify_all()
            if self.path == "/hold":
                self._hold()
            elif self.path == "/until-held":
                outside.held.acquire(timeout=60)
                self._answer(200, {})
            elif self.path.startswith("/flaky/"):
                fails = int(self.path.rsplit("/", 1)[1])
                self._answer(503 if times <= fails else 200, {"times": times})
            elif self.path.startswith("/status/"):
                self._answer(int(self.path.rsplit("/", 1)[1]), {})
            elif self.path in outside.documents:
                self._answer(200, outside.documents[self.path])
            else:
                self._answer(200, {"path": self.path, "headers": dict(self.headers)})

        def do_POST(self) -> None:  # method name required by the library
            body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
            if self.path.startswith("/v1/"):
                self._talk(json.loads(body))
                return
            key = self.headers.get("idempotency-key") or ""
            with outside.lock:
                outside.calls[key] += 1
                if outside.effects.setdefault(key, body) != body:
                    outside.told.append(key)
                outside.lock.notify_all()
            outside.end_effect(lambda: self._answer(200, {"done": outside.effects[key]}))

        def _answer(self, status: int, value: Any) -> None:
            text = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def _talk(self, asked: Any) -> None:
            delta: dict[str, Any] | None = None
            with outside.lock:
                if outside.answers:
                    outside.asked.append(asked["messages"])
                    delta = outside.answers.pop(0)
                    outside.lock.notify_all()
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            self._piece({"role": "assistant", "content": "Once "} if delta is None else delta)
            if delta is None:
                self._hold()
                return
            self._piece({}, "tool_calls" if "tool_calls" in delta else "stop")
            self.wfile.write(b"data: [DONE]\n\n")
            self.close_connection = True

        def _piece(self, delta: dict[str, Any], end: str | None = None) -> None:
            piece = {
                "id": "1",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": "m",
                "choices": [{"index": 0, "delta": delta, "finish_reason": end}],
            }
            self.wfile.write(b"data: " + json.dumps(piece).encode() + b"\n\n")
            self.wfile.flush()

        def _hold(self) -> None:
            outside.held.release()
            self.connection.settimeout(30)
            try:
                is_gone = not self.connection.recv(1)
            except ConnectionError:
                is_gone = True
            except TimeoutError:
                is_gone = False
            if is_gone:
                outside.left.release()
            self.close_connection = True

        def log_message(self, *_args: Any) -> None:
            """Log nothing; the test reports what matters."""

    return Handler
