"""Response bodies that a blocking client reads piece by piece."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx


class Bodies:
    """Closes each response body outside of all other httpx calls of the same thread.

    httpcore guards its connections with a non-reentrant lock. If an iterator is dropped instead of closed, it ends
    when Python collects it. That may happen during another call that has acquired the lock, which would cause a
    deadlock. Therefore a body that is closed during a call is released after the call. Open bodies are referenced in
    this object, so that they are not collected earlier.
    """

    def __init__(self) -> None:
        self._local = threading.local()
        self._open: set[Body] = set()
        self._waiting_bodies: deque[Body] = deque()

    @contextmanager
    def call(self) -> Iterator[None]:
        """Wrap a call to httpx. Every call must use this context manager."""
        self._local.depth = getattr(self._local, "depth", 0) + 1
        try:
            yield
        finally:
            self._local.depth -= 1
            if not self._local.depth:
                self._clear()

    def open(self, response: httpx.Response) -> Body:
        """Return the body of a response, to be read and closed."""
        body = Body(self, response)
        self._open.add(body)
        return body

    def close(self, body: Body) -> None:
        """Release the body's connection: now, or after the httpx call that this thread is in."""
        if body in self._open:
            self._waiting_bodies.append(body)
            self._open.discard(body)
            if not getattr(self._local, "depth", 0):
                self._clear()

    def _clear(self) -> None:
        while self._waiting_bodies:
            try:
                body = self._waiting_bodies.popleft()
            except IndexError:  # another thread was faster
                return
            self._local.depth = 1
            try:
                with suppress(httpx.HTTPError):  # no reader remains
                    body.let_go()
            finally:
                self._local.depth = 0


class Body:
    """The decoded bytes of a response, as they arrive."""

    def __init__(self, bodies: Bodies, response: httpx.Response) -> None:
        self._bodies = bodies
        self._response = response
        self._chunks = response.iter_bytes()

    def __iter__(self) -> Iterator[bytes]:
        while (chunk := self._next()) is not None:
            yield chunk

    def _next(self) -> bytes | None:
        with self._bodies.call():
            return next(self._chunks, None)

    def close(self) -> None:
        self._bodies.close(self)

    def let_go(self) -> None:
        """Release the connection. `Bodies` decides when this is called."""
        end = getattr(self._chunks, "close", None)
        if end is not None:
            end()
        self._response.close()
