"""Detects an engine that responds but has lost its GPU, and ends its process, so that the next call starts a new
one.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING

from portico_server.core.errors import EngineFailed, PorticoError, Unavailable
from portico_server.core.relay import Relay, RelayResponse
from portico_server.models.openai_wire import UpstreamFailed
from portico_server.models.protocol import EngineClient
from portico_server.models.server_process import ServerProcess

if TYPE_CHECKING:
    from portico_server.models.transport import EngineRoute, EngineTransport


logger = logging.getLogger(__name__)

HEALTH_TIMEOUT_S = 5.0
"""Maximum time for the health check of an engine, in seconds."""

_FULL = re.compile(r"out of memory|OutOfMemory", re.IGNORECASE)

_LOST = re.compile(
    r"EngineCore|EngineDead|CUDA error|cudaError|device-side assert|cuBLAS|NCCL|GPU is lost|fallen off the bus",
    re.IGNORECASE,
)


class GpuWatchdog:
    """Wraps an `EngineClient` whose engine runs in the process ``child``. ``health`` is the path of the engine's
    health check.
    """

    def __init__(
        self,
        inner: EngineClient,
        child: ServerProcess,
        transport: EngineTransport,
        health: EngineRoute,
        name: str,
        *,
        reports_lost_gpu: bool = True,
    ) -> None:
        self._inner = inner
        self._reports_lost_gpu = reports_lost_gpu
        self._child = child
        self._transport = transport
        self._health = health
        self._name = name

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.models.protocol.EngineClient`."""
        try:
            return await self._inner.relay(request, deadline)
        except (UpstreamFailed, Unavailable) as error:
            full = _FULL.search(error.message) is not None
            is_lost = full or _LOST.search(error.message) is not None
            if self._reports_lost_gpu and not (is_lost and isinstance(error, UpstreamFailed)):
                raise
            if not await self._well():
                logger.warning("ending the engine of %s: %s", self._name, error.message)
                await self._child.kill()
                raise EngineFailed(f"{error.message} The next call restarts it.{_advice(full)}",
                                   code="engine_lost") from error  # fmt: skip
            if full:
                raise EngineFailed(f"{error.message}{_advice(full)}", code="gpu_out_of_memory") from error
            raise

    async def _well(self) -> bool:
        from portico_server.models.transport import CONNECTION_ERRORS

        try:
            await self._transport.get(
                self._health, deadline=asyncio.get_running_loop().time() + HEALTH_TIMEOUT_S
            )
        except (PorticoError, *CONNECTION_ERRORS):
            return False
        return True


def _advice(full: bool) -> str:
    if not full:
        return ""
    return (
        " If this happens again, give the model a smaller 'context_length', 'max_sequences' or "
        "'memory_share'."
    )
