"""The answers of a blocking client that are being read piece by piece."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx


class Bodies:
    """Closes each of them outside of every other call of the same thread.

    httpcore guards its connections with a lock that nobody can take twice. An iterator that was dropped instead of
    closed ends wherever Python happens to collect it, and that may be in the middle of another call, under that lock:
    there it would wait for itself. So what is closed within a call is closed behind it, and what is open is held here,
    that nothing of it is collected before.
    """

    def __init__(self) -> None:
        self._here = threading.local()
        self._open: set[Body] = set()
        self._left: deque[Body] = deque()

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around everything that goes to httpx."""
        self._here.depth = getattr(self._here, "depth", 0) + 1
        try:
            yield
        finally:
            self._here.depth -= 1
            if not self._here.depth:
                self._clear()

    def open(self, response: httpx.Response) -> Body:
        """The body of a response, to be read and closed."""
        body = Body(self, response)
        self._open.add(body)
        return body

    def close(self, body: Body) -> None:
        """Let go of its connection, now or behind the call that this thread is in."""
        if body in self._open:
            self._left.append(body)
            self._open.discard(body)
            if not getattr(self._here, "depth", 0):
                self._clear()

    def _clear(self) -> None:
        while self._left:
            try:
                body = self._left.popleft()
            except IndexError:  # another thread was quicker
                return
            self._here.depth = 1
            try:
                with suppress(httpx.HTTPError):  # nobody reads it any more
                    body.let_go()
            finally:
                self._here.depth = 0


class Body:
    """The bytes of one answer, decoded, as they come."""

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
        """`Bodies` says when."""
        end = getattr(self._chunks, "close", None)
        if end is not None:
            end()
        self._response.close()
