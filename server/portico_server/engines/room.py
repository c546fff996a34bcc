"""What one process of a model holds: memory of the machine, and shares of its GPUs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from portico_server.core import pools
from portico_server.engines.gpus import NO_SHARE
from portico_server.engines.protocol import Engine, Measures, Occupies
from portico_server.engines.residency import Residency, Tenant
from portico_server.engines.spec import ModelSpec
from portico_server.settings import MB_BYTES


class Room:
    """Memory is promised before a start, by what was measured the last time or is estimated; afterwards what the system
    counts is what is held. GPUs are promised for as long as the process lives.
    """

    def __init__(self, spec: ModelSpec, residency: Residency) -> None:
        self._spec = spec
        self._residency = residency
        self._promised = 0
        self._measured = 0
        self.gpus: Mapping[int, int] = {}
        """Bytes by the number of the GPU."""

    def seen(self, size: int | None) -> None:
        """What the system counts for its process now."""
        self._measured = max(self._measured, size or 0)

    def holds(self, size: Callable[[], int | None], *, loading: bool, alive: bool) -> int:
        """Bytes of the machine's memory; ``size`` asks the system."""
        if self._spec.memory_mb is not None:
            return self._spec.memory_mb * MB_BYTES if self._promised or alive else 0
        return self._promised if loading else size() or 0

    async def take(
        self, tenant: Tenant, kind: Engine, path: Path | None, *, spare: bool, waits: Callable[[], None]
    ) -> None:
        """Have as much set aside as this model is known or thought to need. ``waits`` is called if it needs any.

        Raises `Unavailable`, or `InvalidRequest` for a model that fits no GPU of this machine.
        """
        need = self._measured
        if self._spec.memory_mb is not None:
            need = self._spec.memory_mb * MB_BYTES
        elif not need and isinstance(kind, Measures):
            need = await pools.MODELS.run(kind.memory, self._spec, path)
        share = (
            await pools.MODELS.run(kind.occupies, self._spec, path)
            if isinstance(kind, Occupies)
            else NO_SHARE
        )
        if need or share.count:
            waits()
            self.gpus = await self._residency.admit(tenant, need, share, spare=spare)
            self._promised = need

    def release(self, tenant: Tenant) -> None:
        """Nothing is held any more."""
        self._promised = 0
        self.gpus = {}
        self._residency.leave(tenant)
