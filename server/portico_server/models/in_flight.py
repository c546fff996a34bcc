"""Calls in flight. A call stays in flight until its answer has been read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from portico.wire import Progressed
from portico_server.models.answers import close_chunks


class InFlight:
    """The calls that arrived between two unloads of a model; the second unload waits for them."""

    def __init__(self) -> None:
        self.calls = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def enter(self) -> None:
        self.calls += 1
        self._empty.clear()

    def leave(self) -> None:
        self.calls -= 1
        if self.calls == 0:
            self._empty.set()

    def release_waiters(self) -> None:
        """Release the waiters for the last of these calls."""
        self._empty.set()

    async def wait_until_empty(self, timeout_s: float | None) -> None:
        """Wait until the last call has left, or ``timeout_s`` seconds have passed."""
        waiter = asyncio.ensure_future(self._empty.wait())
        try:
            await asyncio.wait([waiter], timeout=timeout_s)
        finally:
            waiter.cancel()


class CallTurns:
    """The calls of a model, grouped by the unload that waits for them."""

    def __init__(self) -> None:
        self.current = InFlight()
        """The turn that new calls enter."""
        self.ending: InFlight | None = None
        """The turn whose end an unload waits for."""

    @property
    def calls(self) -> int:
        """Return the number of calls that wait for the model or are being answered."""
        return self.current.calls + (self.ending.calls if self.ending else 0)

    def renew(self) -> InFlight:
        """Start a new turn for later calls. Return the turn of the current calls."""
        turn, self.current = self.current, InFlight()
        return turn


class InFlightCall:
    """One call in flight, from its arrival to the end of its answer."""

    __slots__ = ("_turn", "reported_stage")

    def __init__(self, turn: InFlight) -> None:
        self._turn: InFlight | None = turn
        self.reported_stage: Progressed | None = None
        """The last startup stage that was reported to this call's run."""
        turn.enter()

    def belongs_to(self, turn: InFlight | None) -> bool:
        return self._turn is not None and self._turn is turn

    def move_to(self, turn: InFlight) -> None:
        """Move the call to the next turn."""
        if self._turn is not None and self._turn is not turn:
            self._turn.leave()
            turn.enter()
            self._turn = turn

    def leave(self) -> None:
        """Leave the turn. Can be called more than once."""
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.leave()


_PIECE = b'"choices":[{'
"""Bytes that occur once in each frame of a stream, and never within a text, where quotes are escaped."""


class HeldAnswer:
    """Chunks that count as a call in flight until they end or are closed, even if they were never read.

    ``leave`` is called once, with the error that ended the chunks, or ``None``. By then, ``pieces`` is the number of
    pieces that have arrived, and ``complete`` is whether the answer has ended normally.
    """

    def __init__(self, chunks: AsyncIterator[bytes], leave: Callable[[BaseException | None], None]) -> None:
        self._chunks = chunks
        self._leave: Callable[[BaseException | None], None] | None = leave
        self.pieces = 0
        self.complete = False

    def __aiter__(self) -> HeldAnswer:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._chunks.__anext__()
            self.pieces += chunk.count(_PIECE)
            return chunk
        except StopAsyncIteration:
            self.complete = True
            self._end(None)
            raise
        except BaseException as error:
            self._end(error)
            raise

    async def aclose(self) -> None:
        try:
            await close_chunks(self._chunks)
        finally:
            self._end(None)

    def _end(self, error: BaseException | None) -> None:
        leave, self._leave = self._leave, None
        if leave is not None:
            leave(error)
