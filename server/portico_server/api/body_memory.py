"""Memory for the bodies of calls in progress: one budget for all keys, of which each key can use a share.

A call reserves memory before its body is parsed, and gives it back when it ends. WebSockets reserve memory for messages
that wait, and for what they keep between messages.
"""

from __future__ import annotations

import asyncio
from typing import Final

from portico_server.api.auth.credentials import OPERATOR
from portico_server.core import pools
from portico_server.core.errors import TooMany
from portico_server.core.machine_memory import machine_memory
from portico_server.core.principal import LOCAL
from portico_server.core.work_slots import Slots
from portico_server.settings import MB_BYTES, Settings

FREE_BODY_BYTES: Final = 16 * 1024
"""Size of a body that reserves no memory, in bytes: it costs no more than its connection."""

BODY_FACTOR: Final = 3
"""Memory of a body, as a multiple of its size: its bytes, its texts, and the bytes that an engine receives."""

MACHINE_SHARE: Final = 1 / 16
"""Default share of the machine's memory for all bodies."""

MAX_DEFAULT_BYTES: Final = 2 * 2**30

KEY_SHARE: Final = 1 / 4
"""Share of the memory for bodies that one key can use."""

MAX_WAIT_S: Final = 5.0
"""Maximum seconds that a body waits for memory."""

RELEASE_BYTES: Final = 64 * MB_BYTES
"""Memory of ended calls after which free memory is returned to the system, once few calls are in progress."""


class BodyMemory:
    """The budget. The operator and local callers without a key can use all of it. The daemon's task group runs
    `release_freed`.
    """

    def __init__(self, settings: Settings) -> None:
        total = settings.body_memory_mb * MB_BYTES or min(
            int(machine_memory() * MACHINE_SHARE), MAX_DEFAULT_BYTES
        )
        self._share = int(total * KEY_SHARE)
        self._few_bytes = total // 64
        self._slots = Slots(
            "bodies", total, self._share, max_wait_s=MAX_WAIT_S, unlimited=(LOCAL.id, OPERATOR.id)
        )
        self._freed_bytes = 0
        self._is_quiet = asyncio.Event()

    def cost(self, body_bytes: int, value_bytes: int = 0) -> int:
        """Return the memory that a body reserves, in bytes. A body of any size fits into the share of its key."""
        if body_bytes <= FREE_BODY_BYTES:
            return 0
        return min(BODY_FACTOR * body_bytes + value_bytes, self._share)

    def cost_of_messages(self, size: int, limit: int) -> int:
        """Return the memory that the messages of a WebSocket reserve. Raise `TooMany` if they exceed both the share of
        a key and ``limit``, the maximum size of one message.
        """
        if size > max(limit, self._share // BODY_FACTOR):
            raise _in_use()
        return self.cost(size)

    async def take(self, key: str, size: int) -> None:
        """Reserve memory. If it is in use, wait up to `MAX_WAIT_S`. Raises `TooMany`."""
        try:
            await self._slots.take(key, size)
        except TooMany:
            raise _in_use() from None

    def take_now(self, key: str, size: int) -> None:
        """Reserve memory. Raise `TooMany` if it is in use."""
        if not self._slots.take_now(key, size):
            raise _in_use()

    def give(self, key: str, size: int) -> None:
        """Give memory back."""
        self._slots.give(key, size)
        self._freed_bytes += size
        if self._freed_bytes >= RELEASE_BYTES and self._slots.used_count <= self._few_bytes:
            self._is_quiet.set()

    async def release_freed(self) -> None:
        """Return the memory of large bodies to the system after their calls have ended, until cancelled."""
        while True:
            await self._is_quiet.wait()
            self._is_quiet.clear()
            self._freed_bytes = 0
            await pools.release_memory()


def _in_use() -> TooMany:
    return TooMany(
        "The calls in progress use all the memory for large bodies that this API key or this daemon has. Wait for a "
        "call to end, or send smaller bodies.",
        code="too_many_at_once",
        retry_after=MAX_WAIT_S,
    )
