"""The hardware of this machine: cores, memory, GPUs. Reading is separate from parsing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cache
from typing import TypeVar

import psutil

from portico_server.core.dataclass import dataclass
from portico_server.core.machine_memory import machine_memory

_COMMAND_TIMEOUT_S = 5.0
"""Timeout of a driver's tool, in seconds. If the tool does not respond in time, its GPUs are not used."""
_MIB = 1024 * 1024
_SMI = re.compile(r"(.+?), *(\d+|\[N/A\]|\[Not Supported\])(?:, *(\d+\.\d+))?(?:, *\[N/A\])?")
METAL_SHARE = 0.7
"""Share of an Apple machine's memory that Metal lets the GPU use by default, slightly under 3/4."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. ``shared``: its memory is the machine's memory, which the CPU also uses.

    ``capability`` is NVIDIA's compute capability; 0 if it is unknown or the GPU is not from NVIDIA.
    """

    name: str
    memory_bytes: int
    shared: bool = False
    capability: float = 0.0


@dataclass(frozen=True, slots=True)
class Hardware:
    """The hardware of a machine, or of each of several equal ``nodes``.

    ``cores`` are physical cores that this process can use; ``memory_bytes`` is the memory that it can fill.
    """

    cores: int
    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()
    nodes: int = 1

    @property
    def gpu_bytes(self) -> int:
        """Return the memory of all GPUs together."""
        return sum(gpu.memory_bytes for gpu in self.gpus)


def detect() -> Hardware:
    """Detect this machine's hardware; blocks while a driver's tool runs. No response means no GPU."""
    memory = machine_memory()
    gpus: tuple[Gpu, ...] = ()
    if sys.platform == "darwin":
        gpus = parse_sysctl(_ask("sysctl", "hw.optional.arm64", "machdep.cpu.brand_string"), memory)
    elif shutil.which("nvidia-smi"):
        form = "--format=csv,noheader,nounits"
        output = _ask("nvidia-smi", "--query-gpu=name,memory.total,compute_cap", form)
        # Older drivers do not support the last field and then print nothing at all.
        output = output or _ask("nvidia-smi", "--query-gpu=name,memory.total", form)
        gpus = left_visible(parse_nvidia_smi(output, memory), visible_names(os.environ))
    return Hardware(_cores(), memory, gpus)


def free_gpu_memory() -> tuple[int, ...]:
    """Return the free bytes on each NVIDIA GPU; empty if the driver does not report them. Blocks."""
    if not shutil.which("nvidia-smi"):
        return ()
    output_lines = _ask("nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits").split()
    sizes = [int(line) * _MIB for line in output_lines if line.isdecimal()]
    names = visible_names(os.environ)
    if names is None or len(sizes) != len(output_lines):
        return tuple(sizes)
    numbers = [int(name) if name.isdecimal() else place for place, name in enumerate(names)]
    return tuple(sizes[number] for number in numbers if number < len(sizes))


@cache
def this_machine() -> Hardware:
    """Return the result of `detect`, which is called only once: hardware does not change while a daemon runs."""
    return detect()


def parse_nvidia_smi(text: str, memory_bytes: int) -> tuple[Gpu, ...]:
    """Parse ``NAME, MIB`` or ``NAME, MIB, CAPABILITY`` lines.

    A GPU that shares the machine's memory has ``[N/A]`` as its own memory.
    """
    gpus = []
    for line in text.splitlines():
        match = _SMI.fullmatch(line.strip())
        if match is None:
            continue
        name, size, capability = match.groups()
        is_shared = not size.isdecimal()
        memory = int(memory_bytes * METAL_SHARE) if is_shared else int(size) * _MIB
        gpus.append(Gpu(name.strip(), memory, is_shared, float(capability or 0)))
    return tuple(gpus)


@dataclass(frozen=True, slots=True)
class GpuUse:
    """GPU memory in use, in bytes: on each GPU with its own memory, and for each process id on each of these GPUs."""

    used: tuple[int, ...] = ()
    processes: Mapping[int, Mapping[int, int]] = field(default_factory=dict)


def gpu_use() -> GpuUse:
    """Return the memory usage that the driver reports, in the order of `Hardware.gpus`. Blocks while its tool runs.

    If the tool does not respond, no memory counts as used. In a container, the driver may list processes under other
    ids, or list none.
    """
    if sys.platform == "darwin" or not shutil.which("nvidia-smi"):
        return GpuUse()
    form = "--format=csv,noheader,nounits"
    cards = _ask("nvidia-smi", "--query-gpu=uuid,memory.total,memory.used", form)
    programs = _ask("nvidia-smi", "--query-compute-apps=gpu_uuid,pid,used_memory", form)
    return parse_gpu_use(cards, programs, visible_names(os.environ))


def parse_gpu_use(cards: str, programs: str, names: Sequence[str] | None) -> GpuUse:
    """Parse lines of ``UUID, MIB, MIB`` (total and used memory of a GPU) and of ``UUID, PID, MIB`` (memory of a
    program).
    """
    rows = [[part.strip() for part in line.split(",")] for line in cards.splitlines()]
    visible_rows = left_visible(tuple(row for row in rows if len(row) == 3), names)
    own_rows = [
        row for row in visible_rows if row[1].isdecimal() and row[2].isdecimal()
    ]  # GPUs without their own memory share the machine's
    numbers = {row[0]: number for number, row in enumerate(own_rows)}
    processes: dict[int, dict[int, int]] = {}
    for line in programs.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3 and parts[0] in numbers and parts[1].isdecimal() and parts[2].isdecimal():
            process_bytes = processes.setdefault(int(parts[1]), {})
            process_bytes[numbers[parts[0]]] = process_bytes.get(numbers[parts[0]], 0) + int(parts[2]) * _MIB
    return GpuUse(tuple(int(row[2]) * _MIB for row in own_rows), processes)


def visible_names(variables: Mapping[str, str]) -> list[str] | None:
    """Return the GPUs that ``CUDA_VISIBLE_DEVICES`` leaves visible; ``None`` for all of them."""
    visible_value = variables.get("CUDA_VISIBLE_DEVICES")
    return (
        None if visible_value is None else [name.strip() for name in visible_value.split(",") if name.strip()]
    )


_Listed = TypeVar("_Listed")


def left_visible(gpus: tuple[_Listed, ...], names: Sequence[str] | None) -> tuple[_Listed, ...]:
    """Return the GPUs that ``CUDA_VISIBLE_DEVICES`` leaves visible, in the order of ``names``.

    ``gpus`` are all GPUs, as the driver's tool lists them. If ``names`` is ``None``, return all.
    """
    if names is None:
        return gpus
    numbers = [int(name) if name.isdecimal() else place for place, name in enumerate(names)]
    return tuple(gpus[number] for number in numbers if number < len(gpus))


def parse_sysctl(text: str, memory_bytes: int) -> tuple[Gpu, ...]:
    """Parse ``name: value`` lines of a Mac: a Mac with Apple silicon has a GPU that shares the machine's memory."""
    values = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    if values.get("hw.optional.arm64") != "1":
        return ()
    name = values.get("machdep.cpu.brand_string", "Apple").strip()
    return (Gpu(name, int(memory_bytes * METAL_SHARE), shared=True),)


def usable_cores(physical: int | None, logical: int, allowed_cores: int) -> int:
    """Return the number of physical cores that this process can use, or of logical cores if ``physical`` is unknown."""
    if physical is None or physical < 1 or logical < physical:
        return max(1, allowed_cores)
    return max(1, min(physical, allowed_cores * physical // logical or 1))


def _cores() -> int:
    logical = os.cpu_count() or 1
    allowed_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical
    return usable_cores(psutil.cpu_count(logical=False), logical, allowed_cores)


def free_memory() -> int:
    """Return the free memory in bytes."""
    return int(psutil.virtual_memory().available)


def _ask(*command: str) -> str:
    """Return the standard output of a tool, or an empty string if it fails."""
    try:
        answer = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMMAND_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.decode("utf-8", "replace")


def describe(hardware: Hardware) -> str:
    """Return a one-line description for people, such as ``8 cores, 32 GB memory, NVIDIA L4 (24 GB)``."""
    parts = [
        f"{hardware.cores} core{'s' if hardware.cores > 1 else ''}",
        f"{_gb(hardware.memory_bytes)} memory",
    ]
    parts += [f"{name} ({size})" for name, size in _count_gpus(hardware.gpus)]
    text = ", ".join(parts)
    return f"{hardware.nodes} nodes, each with {text}" if hardware.nodes > 1 else text


def _count_gpus(gpus: Sequence[Gpu]) -> list[tuple[str, str]]:
    names = list(dict.fromkeys((gpu.name, gpu.memory_bytes) for gpu in gpus))
    counts = [sum((gpu.name, gpu.memory_bytes) == item for gpu in gpus) for item in names]
    return [
        (f"{count} × {name}" if count > 1 else name, _gb(size))
        for (name, size), count in zip(names, counts, strict=True)
    ]


def _gb(size: int) -> str:
    return f"{size / 1024**3:.0f} GB"
