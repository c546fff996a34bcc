"""Which open model suits a machine. The knowledge is in ``recommended.json``, best model first.

There ``gpu_gb`` and ``cpu.memory_gb`` are GiB a machine must have for the GGUF and a context of some thousand
tokens; ``cpu.cores`` keeps a reply readable as it comes; ``gguf_gb`` and ``safetensors_gb`` are downloads in
10^9 bytes. ``null``: not suggested there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # the daemon knows this module before it has looked at its hardware
    from portico_server.engines.hardware import Hardware

_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A model for a machine; sizes are downloads in GB, ``device`` is what it was chosen for."""

    name: str
    source: str
    """The GGUF, for the embedded engine."""
    size_gb: float
    safetensors: str
    safetensors_gb: float
    licence: str
    device: Literal["gpu", "cpu"]
    reason: str
    """Why this one, for a person."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row of the table; needs are GiB and physical cores, None where the model is not suggested."""

    name: str
    gguf: str
    gguf_gb: float
    safetensors: str
    safetensors_gb: float
    licence: str
    gpu_gb: float | None
    cpu_gb: float | None
    cpu_cores: int | None


def recommend(hardware: Hardware, *, accelerated: bool = True) -> Recommendation | None:
    """The best model that fits, or None on a machine too small for any.

    A fitting GPU decides; without one, or without an engine that uses it (``accelerated=False``), memory and
    cores do.
    """
    gpu, memory = hardware.gpu_bytes / _GIB, hardware.memory_bytes / _GIB
    if accelerated:
        for row in candidates():
            if row.gpu_gb is not None and gpu >= row.gpu_gb:
                return _chosen(row, "gpu", f"the best that fits {gpu:.0f} GB of GPU memory")
    for row in candidates():
        if row.cpu_gb is None or row.cpu_cores is None:
            continue
        if memory >= row.cpu_gb and hardware.cores >= row.cpu_cores:
            cores = f"{hardware.cores} core{'s' if hardware.cores > 1 else ''}"
            return _chosen(row, "cpu", f"the best for {memory:.0f} GB of memory and {cores} without a GPU")
    return None


@cache
def candidates() -> tuple[Candidate, ...]:
    """The table, best model first."""
    rows = json.loads((files("portico_server.engines") / "recommended.json").read_text("utf-8"))
    return tuple(
        Candidate(
            row["name"],
            row["gguf"],
            row["gguf_gb"],
            row["safetensors"],
            row["safetensors_gb"],
            row["licence"],
            row["gpu_gb"],
            (row["cpu"] or {}).get("memory_gb"),
            (row["cpu"] or {}).get("cores"),
        )
        for row in rows
    )


def named(name: str) -> str | None:
    """The source of the recommended model of that name, if there is one."""
    return next((row.gguf for row in candidates() if row.name == name), None)


def _chosen(row: Candidate, device: Literal["gpu", "cpu"], reason: str) -> Recommendation:
    return Recommendation(
        row.name, row.gguf, row.gguf_gb, row.safetensors, row.safetensors_gb, row.licence, device, reason
    )
