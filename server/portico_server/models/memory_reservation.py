"""The memory of one process of a model: machine memory, and shares of its GPUs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from portico_server.core import pools
from portico_server.models.gpus import NO_GPU_SHARE
from portico_server.models.memory import MemoryHolder, Residency, resident_bytes
from portico_server.models.protocol import Engine, MeasuresMemory, OccupiesGpus
from portico_server.models.spec import ModelSpec
from portico_server.settings import MB_BYTES


class MemoryReservation:
    """The memory that is reserved for, and used by, one process of a model.

    Before a start, memory is reserved: the spec's ``memory_mb``, the last measurement, or an estimate. Afterwards, the
    memory that the system reports counts. GPU memory stays reserved until the process ends.
    """

    def __init__(self, spec: ModelSpec, residency: Residency, holder: MemoryHolder) -> None:
        self._spec = spec
        self._residency = residency
        self._holder = holder
        self._promised = 0
        self._measured_bytes = 0
        self.gpus: Mapping[int, int] = {}
        """Reserved bytes, by GPU number."""

    def measure(self, pid: int | None) -> int | None:
        """Return the bytes that the process and its children use according to the system; ``None`` without a
        process.
        """
        size = resident_bytes(pid, children=True) if pid else None
        self._measured_bytes = max(self._measured_bytes, size or 0)
        return size

    def holds(self, pid: int | None, *, loading: bool) -> int:
        """Return the process's machine memory in bytes; ask the system if necessary."""
        if self._spec.memory_mb is not None:
            return self._spec.memory_mb * MB_BYTES if self._promised or pid is not None else 0
        return self._promised if loading else self.measure(pid) or 0

    async def take(self, kind: Engine, path: Path | None, *, spare: bool, waits: Callable[[], None]) -> None:
        """Reserve the measured or estimated memory of the model. ``waits`` is called first if the model needs memory.

        Raise `Unavailable`, or `InvalidRequest` for a model that fits no GPU of this machine.
        """
        need = self._measured_bytes
        if self._spec.memory_mb is not None:
            need = self._spec.memory_mb * MB_BYTES
        elif not need and isinstance(kind, MeasuresMemory):
            need = await pools.MODELS.run(kind.memory, self._spec, path)
        share = (
            await pools.MODELS.run(kind.occupies, self._spec, path)
            if isinstance(kind, OccupiesGpus)
            else NO_GPU_SHARE
        )
        if need or share.count:
            waits()
            self.gpus = await self._residency.admit(self._holder, need, share, spare=spare)
            self._promised = need

    def release(self) -> None:
        """Release the reservation."""
        self._promised = 0
        self.gpus = {}
        self._residency.leave(self._holder)
