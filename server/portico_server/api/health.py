"""``/health``: whether the daemon runs. ``/ready``: whether it can accept requests now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import orjson

from portico_server import __version__
from portico_server.api.errors import NotAllowedHere
from portico_server.api.exchange import Exchange
from portico_server.api.services import ApiServices
from portico_server.core.errors import PorticoError, Unavailable

HEALTH: Final = orjson.dumps({"status": "ok", "version": __version__})
READY: Final = orjson.dumps({"status": "ready"})

READINESS_TTL_S: Final = 1.0
"""Seconds for which the result of one check is reused, so that frequent unauthenticated requests cause no extra
work.
"""

TIMEOUT_S: Final = 2.0
"""Seconds within which the database must answer."""


class Readiness:
    """The readiness of the daemon.

    ``check`` queries the database and raises `PorticoError`; ``event`` is set once all adapters that startup imports
    are loaded.
    """

    def __init__(self, check: Callable[[], Awaitable[None]], event: asyncio.Event) -> None:
        self._check = check
        self._furnished = event
        self._check_task: asyncio.Task[PorticoError | None] | None = None
        self._checked_at = 0.0

    async def answer(self, exchange: Exchange, _services: ApiServices) -> None:
        """Answer ``/ready``."""
        _require_get(exchange)
        await self.require()
        await exchange.answer(200, READY)

    async def require(self) -> None:
        """Return if the daemon is ready. Raise `Unavailable` with the reason otherwise."""
        if not self._furnished.is_set():
            raise Unavailable("The daemon is starting.", code="starting", retry_after=READINESS_TTL_S)
        if self._check_task is None or (
            self._check_task.done() and time.monotonic() - self._checked_at > READINESS_TTL_S
        ):
            self._check_task = asyncio.create_task(self._ask_database(), name="ready")
        # All callers share the check, so a caller that disconnects does not cancel it.
        problem = await asyncio.shield(self._check_task)
        if problem is not None:
            raise problem

    async def _ask_database(self) -> PorticoError | None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._check()
        except TimeoutError:
            return Unavailable(
                f"The database did not answer within {TIMEOUT_S:g} s.",
                code="database_unavailable",
                retry_after=READINESS_TTL_S,
            )
        except PorticoError as error:
            return error
        finally:
            self._checked_at = time.monotonic()
        return None


async def answer_health(exchange: Exchange, _services: ApiServices) -> None:
    """Answer ``/health``."""
    _require_get(exchange)
    await exchange.answer(200, HEALTH)


def _require_get(exchange: Exchange) -> None:
    path, method = exchange.scope["path"], exchange.scope["method"]
    exchange.scope["portico.route"] = path
    if method not in ("GET", "HEAD"):
        raise NotAllowedHere(method, path, "GET, HEAD")
