"""Calls in flight: a call's place among those of its model, and the answer that holds it until it is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from portico.wire import Status
from portico_server.engines.answer import close


class Turn:
    """The calls that came between two unloads of a model: those that the second one waits for."""

    def __init__(self) -> None:
        self.calls = 0
        self._over = asyncio.Event()
        self._over.set()

    def enter(self) -> None:
        self.calls += 1
        self._over.clear()

    def leave(self) -> None:
        self.calls -= 1
        if self.calls == 0:
            self._over.set()

    def dismiss(self) -> None:
        """Let whoever waits for the end of this turn go on without it."""
        self._over.set()

    async def over(self, patience: float | None) -> None:
        """Until the last call has left, or ``patience`` seconds have passed."""
        waiter = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait([waiter], timeout=patience)
        finally:
            waiter.cancel()


class Place:
    """One call's place in a turn, from its arrival to the end of its answer."""

    __slots__ = ("_turn", "told")

    def __init__(self, turn: Turn) -> None:
        self._turn: Turn | None = turn
        self.told: Status | None = None
        """The last stage of a start that this call's run has heard of."""
        turn.enter()

    def within(self, turn: Turn | None) -> bool:
        return self._turn is not None and self._turn is turn

    def move(self, turn: Turn) -> None:
        """Wait for the next turn instead."""
        if self._turn is not None and self._turn is not turn:
            self._turn.leave()
            turn.enter()
            self._turn = turn

    def leave(self) -> None:
        """May be called again."""
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.leave()


class Held:
    """Chunks that count as a call in flight until they end or are closed, even if they were never begun.

    ``leave`` is called once, with the error that ended them or ``None``.
    """

    def __init__(self, chunks: AsyncIterator[bytes], leave: Callable[[BaseException | None], None]) -> None:
        self._chunks = chunks
        self._leave: Callable[[BaseException | None], None] | None = leave

    def __aiter__(self) -> Held:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._chunks.__anext__()
        except StopAsyncIteration:
            self._end(None)
            raise
        except BaseException as error:
            self._end(error)
            raise

    async def aclose(self) -> None:
        try:
            await close(self._chunks)
        finally:
            self._end(None)

    def _end(self, error: BaseException | None) -> None:
        leave, self._leave = self._leave, None
        if leave is not None:
            leave(error)
