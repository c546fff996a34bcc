"""Chooses the GPUs of a model: the free memory on each, and which models must be unloaded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Unavailable

if TYPE_CHECKING:
    from portico_server.models.hardware import Gpu, GpuUse

USABLE_GPU_SHARE = 0.95
"""Share of a GPU's memory that engines can use; the rest is for its driver and the engines' overhead."""

GB = 1024**3


@dataclass(frozen=True, slots=True)
class GpuShare:
    """A model's GPU requirement: ``memory`` bytes on each of ``count`` GPUs."""

    count: int = 0
    memory: int = 0


NO_GPU_SHARE = GpuShare()


def choose_gpus(
    gpus: Sequence[Gpu],
    model_holdings: Iterable[Mapping[int, int]],
    want: GpuShare,
    elsewhere: Mapping[int, int] | None = None,
) -> tuple[int, ...] | None:
    """Return the numbers of the emptiest GPUs with room for ``want``, or ``None`` if too few GPUs have room.

    ``model_holdings`` is the memory of other models, ``elsewhere`` the memory of other programs: bytes by GPU number.
    """
    other_usage = elsewhere or {}
    free = [
        min(int(gpu.memory_bytes * USABLE_GPU_SHARE), gpu.memory_bytes - other_usage.get(number, 0))
        for number, gpu in enumerate(gpus)
    ]
    for holding in model_holdings:
        for number, size in holding.items():
            free[number] -= size
    able = sorted((n for n in range(len(gpus)) if free[n] >= want.memory), key=lambda n: -free[n])
    return tuple(sorted(able[: want.count])) if len(able) >= want.count else None


def check_gpus(name: str, gpus: Sequence[Gpu], want: GpuShare, elsewhere: Mapping[int, int]) -> None:
    """Raise `Unavailable` if the GPUs would be too small even if this daemon had no other model loaded."""
    if choose_gpus(gpus, (), want) is None:
        largest = max((gpu.memory_bytes for gpu in gpus), default=0)
        raise Unavailable(
            f"'{name}' needs {_gb(want.memory)} on {_count_text(want.count)}, and this machine has "
            f"{_count_text(len(gpus))} with up to {_gb(int(largest * USABLE_GPU_SHARE))} for models. Set a "
            "smaller 'memory_share', 'tensor_parallel' or 'context_length', or choose a smaller model.",
            code="gpu_memory_budget",
        )
    if choose_gpus(gpus, (), want, elsewhere) is None:
        raise Unavailable(
            f"'{name}' does not fit on the GPUs: it needs {_gb(want.memory)} on {_count_text(want.count)}, and "
            f"{_of_other_programs(gpus, elsewhere)}. Stop programs that you do not need (nvidia-smi lists "
            "them), or set a smaller 'memory_share' of the model.",
            code="gpu_memory_budget",
        )


def fully_used(
    name: str, gpus: Sequence[Gpu], want: GpuShare, other_models: Iterable[str], elsewhere: Mapping[int, int]
) -> Unavailable:
    """Return the error to raise if no model can be unloaded."""
    staying = ", ".join(sorted(set(other_models)))
    programs = f"; {_of_other_programs(gpus, elsewhere)}" if any(elsewhere.values()) else ""
    return Unavailable(
        f"'{name}' does not fit on the GPUs: it needs {_gb(want.memory)} on {_count_text(want.count)}, and "
        f"{staying} cannot be unloaded{programs}. Unpin one of them, or set a smaller 'memory_share' for "
        "each.",
        code="gpu_memory_budget",
    )


def holdings(
    use: GpuUse, models: Sequence[tuple[Mapping[int, int], Sequence[int]]]
) -> tuple[Sequence[Mapping[int, int]], Mapping[int, int]]:
    """Return the GPU memory of each of our models, and of other programs: bytes by GPU number.

    ``models`` contains each model's reserved memory and process ids; the ids are empty while the model starts. A model
    counts with its reservation or with the driver's count, whichever is larger. If the driver lists none of our
    processes, as in a container, each model is assumed to use its reservation.
    """
    measured_use = [used_bytes(use, pids) for _, pids in models]
    is_named = any(measured_use)
    elsewhere = dict(enumerate(use.used))
    for (promised_bytes, pids), real in zip(models, measured_use, strict=True):
        for number, size in (real if is_named else promised_bytes if pids else {}).items():
            elsewhere[number] = elsewhere.get(number, 0) - size
    model_holdings = [
        {
            number: max(promised.get(number, 0), real.get(number, 0))
            for number in promised.keys() | real.keys()
        }
        for (promised, _), real in zip(models, measured_use, strict=True)
    ]
    return model_holdings, {number: max(0, size) for number, size in elsewhere.items()}


def used_bytes(use: GpuUse, pids: Iterable[int]) -> Mapping[int, int]:
    """Return the bytes, by GPU number, that the driver counts for the given processes together."""
    bytes_by_gpu: dict[int, int] = {}
    for pid in pids:
        for number, size in use.processes.get(pid, {}).items():
            bytes_by_gpu[number] = bytes_by_gpu.get(number, 0) + size
    return bytes_by_gpu


def _of_other_programs(gpus: Sequence[Gpu], elsewhere: Mapping[int, int]) -> str:
    usage_texts = [
        f"{_gb(elsewhere[number])} of GPU {number} ({_gb(gpu.memory_bytes)})"
        for number, gpu in enumerate(gpus)
        if elsewhere.get(number)
    ]
    return f"other programs use {', '.join(usage_texts)}"


def gpu_environment(numbers: Sequence[int]) -> dict[str, str]:
    """Return environment variables that restrict a process to the GPUs in ``numbers``; empty if ``numbers`` is empty.

    If the daemon itself sees only some GPUs, the numbers refer to the visible GPUs.
    """
    if not numbers:
        return {}
    from portico_server.models.hardware import visible_names

    visible = visible_names(os.environ)
    names = [visible[number] if visible is not None else str(number) for number in numbers]
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(names)}


def _count_text(number: int) -> str:
    return "1 GPU" if number == 1 else f"{number} GPUs" if number else "no GPU"


def _gb(size: int) -> str:
    return f"{size / GB:.1f} GB"
