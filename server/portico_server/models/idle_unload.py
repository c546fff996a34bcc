"""Unloads models that have been idle for a while."""

from __future__ import annotations

import asyncio
import logging
import time

from portico_server.models.deployments import Deployments

logger = logging.getLogger(__name__)


class IdleUnload:
    """Unloads idle models. ``keep_alive``, in seconds, applies to specs that set none; 0 means never."""

    def __init__(self, deployments: Deployments, keep_alive: float) -> None:
        self._deployments = deployments
        self._keep_alive = keep_alive
        self._sweeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._sweeping = asyncio.create_task(self._sweep(), name="unload idle models")

    async def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait([self._sweeping])

    async def _sweep(self) -> None:
        """Unload models that have been idle for the ``keep_alive`` of their spec or, if it sets none, of the
        settings.
        """
        while True:
            now, shortest = time.monotonic(), 60.0
            for name, deployment in list(self._deployments.items()):
                for process in deployment.pool.processes:
                    if process.replacement.leaving and process.idle_since is not None:
                        await process.unload()
                own_keep_alive = deployment.spec.keep_alive
                limit = self._keep_alive if own_keep_alive is None else own_keep_alive
                if not limit or deployment.spec.pin:
                    continue
                shortest = min(shortest, limit)
                since = deployment.pool.idle_since
                if since and now - since >= limit and name in self._deployments:
                    logger.info("unloading model %s after %g s idle", name, limit)
                    await deployment.unload()
            # Only time passes; no event can be awaited.
            await asyncio.sleep(max(1.0, shortest / 4))
