"""``GET /ready``: whether this daemon can take requests now; `/health` says only that it runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import orjson

from portico_server.core.errors import PorticoError, Unavailable

READY: Final = orjson.dumps({"status": "ready"})

LOOK_S: Final = 1.0
"""Seconds for which one look counts: whoever asks more often, without a key, causes no more work."""

TIMEOUT_S: Final = 2.0
"""Seconds in which the database must answer."""


class Readiness:
    """``check`` asks the database and raises `PorticoError`; ``furnished`` is set once every face is there."""

    def __init__(self, check: Callable[[], Awaitable[None]], furnished: asyncio.Event) -> None:
        self._check = check
        self._furnished = furnished
        self._looking: asyncio.Task[PorticoError | None] | None = None
        self._looked_at = 0.0

    async def require(self) -> None:
        """Return if the daemon is ready. Raises `Unavailable` with the reason."""
        if not self._furnished.is_set():
            raise Unavailable("The daemon is starting.", code="starting", retry_after=LOOK_S)
        if self._looking is None or (self._looking.done() and time.monotonic() - self._looked_at > LOOK_S):
            self._looking = asyncio.create_task(self._look(), name="ready")
        # The look is everybody's: one who leaves does not end it.
        problem = await asyncio.shield(self._looking)
        if problem is not None:
            raise problem

    async def _look(self) -> PorticoError | None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._check()
        except TimeoutError:
            return Unavailable(
                f"The database has not answered within {TIMEOUT_S:g} s.",
                code="database_unavailable",
                retry_after=LOOK_S,
            )
        except PorticoError as error:
            return error
        finally:
            self._looked_at = time.monotonic()
        return None
