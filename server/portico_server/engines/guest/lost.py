"""An engine that answers but has lost its GPU: found out, and ended, so that the next call starts a new one."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING

from portico_server.core.errors import EngineFailed, PorticoError, Unavailable
from portico_server.core.relay import Relay, RelayResponse
from portico_server.engines.protocol import Speaker
from portico_server.engines.refusal import UpstreamFailed

if TYPE_CHECKING:
    from portico_server.engines.child import Child
    from portico_server.engines.transport import Route, Transport

logger = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds in which an engine that is well says so."""

_FULL = re.compile(r"out of memory|OutOfMemory", re.IGNORECASE)

_LOST = re.compile(
    r"EngineCore|EngineDead|CUDA error|cudaError|device-side assert|cuBLAS|NCCL|GPU is lost|fallen off the bus",
    re.IGNORECASE,
)


class Watched:
    """A `Speaker` before another one, whose process is ``child``; ``health`` is where it says how it is, ``tells``
    whether its errors do.
    """

    def __init__(
        self,
        inner: Speaker,
        child: Child,
        transport: Transport,
        health: Route,
        name: str,
        *,
        tells: bool = True,
    ) -> None:
        self._inner = inner
        self._tells = tells
        self._child = child
        self._transport = transport
        self._health = health
        self._name = name

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.engines.protocol.Speaker`."""
        try:
            return await self._inner.relay(request, deadline)
        except (UpstreamFailed, Unavailable) as error:
            full = _FULL.search(error.message) is not None
            said = full or _LOST.search(error.message) is not None
            if self._tells and not (said and isinstance(error, UpstreamFailed)):
                raise
            if not await self._well():
                logger.warning("the engine of %s is ended: %s", self._name, error.message)
                await self._child.kill()
                raise EngineFailed(f"{error.message} It is started anew by the next call.{_advice(full)}",
                                   code="engine_lost") from error  # fmt: skip
            if full:
                raise EngineFailed(f"{error.message}{_advice(full)}", code="gpu_out_of_memory") from error
            raise

    async def _well(self) -> bool:
        from portico_server.engines.transport import CONNECTION_ERRORS  # aiohttp is imported by now

        try:
            await self._transport.get(self._health, deadline=asyncio.get_running_loop().time() + PATIENCE)
        except (PorticoError, *CONNECTION_ERRORS):
            return False
        return True


def _advice(full: bool) -> str:
    if not full:
        return ""
    return " Give the model a smaller 'context_length', 'max_sequences' or 'memory_share', if this happens again."
