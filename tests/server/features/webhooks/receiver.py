"""A webhook receiver on this machine: it records messages and answers as a test specifies."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue

TIMEOUT_S = 60
"""Seconds within which an expected message must arrive."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message sent to a path."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """A receiver. ``answers``: the statuses with which a path answers one after another; once they are used up, 200.

    A path that starts with ``/hang`` answers once ``release`` is set; one that starts with ``/redirect`` redirects to
    ``/moved``.
    """

    port: int
    answers: dict[str, list[int]] = field(default_factory=dict)
    release: threading.Event = field(default_factory=threading.Event)
    _arrived: dict[str, Queue[Message]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def queue(self, path: str) -> Queue[Message]:
        with self._lock:
            return self._arrived.setdefault(path, Queue())

    def take(self, path: str) -> Message:
        """Return the next message of a path; wait until it arrives."""
        return self.queue(path).get(timeout=TIMEOUT_S)

    async def next(self, path: str) -> Message:
        """Do the same as `take`, in a test whose own event loop runs the daemon."""
        return await asyncio.to_thread(self.take, path)

    def status(self, path: str) -> int:
        with self._lock:
            remaining_answers = self.answers.get(path)
            return remaining_answers.pop(0) if remaining_answers else 200


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver for the duration of a ``with`` block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = 307 if self.path.startswith("/redirect") else receiver.status(self.path)
            receiver.queue(self.path).put(Message(headers, body))
            if self.path.startswith("/hang"):
                receiver.release.wait(TIMEOUT_S)
            try:
                self.send_response(status)
                if status == 307:
                    self.send_header("location", receiver.url("/moved"))
                self.send_header("content-length", "0")
                self.end_headers()
            except OSError:
                self.close_connection = True  # the sender has disconnected

        def log_message(self, *_arguments: object) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_arguments: object) -> None:
            """Ignore the error: the test killed the sender on purpose."""

    with Server(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        receiver = Receiver(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.release.set()
            server.shutdown()
            thread.join()
