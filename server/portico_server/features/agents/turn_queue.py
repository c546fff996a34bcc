"""The order of turns in a session: turns of an agent and of the agents below it run one at a time, in order of
arrival.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class TurnQueue:
    """The turns of one session. Two turns run one after another if they belong to the same agent, or if one agent is
    above the other in the tree. All other turns run concurrently.

    So agents that a program uses side by side ("writer", "critic") may run concurrently, and an agent called from
    within another agent's turn does not wait for that turn.
    """

    def __init__(self) -> None:
        self._turns: list[tuple[object, str]] = []
        self._change_event = asyncio.Event()

    def must_wait(self, path: str) -> bool:
        """Return whether a turn of the agent at ``path`` would have to wait."""
        return any(_meet(path, other_path) for _ticket, other_path in self._turns)

    @asynccontextmanager
    async def hold(self, path: str) -> AsyncIterator[None]:
        """Wait for earlier turns, then run the body as the turn of the agent at ``path``."""
        ticket = object()
        self._turns.append((ticket, path))
        try:
            while self._behind(ticket, path):
                await self._change_event.wait()
            yield
        finally:
            self._turns = [turn for turn in self._turns if turn[0] is not ticket]
            event, self._change_event = self._change_event, asyncio.Event()
            event.set()

    def _behind(self, ticket: object, path: str) -> bool:
        for other_ticket, at in self._turns:
            if other_ticket is ticket:
                return False
            if _meet(path, at):
                return True
        return False


def _meet(path: str, other_path: str) -> bool:
    """Return whether two paths belong to the same agent, or to agents of which one is above the other in the tree."""
    short, long = sorted((path, other_path), key=len)
    return not short or long == short or long.startswith(f"{short}.")
