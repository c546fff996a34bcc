"""Other machines for which models can be planned, as data in ``presets.json``; memory is in GiB."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.models.hardware import METAL_SHARE, Gpu, Hardware

_GIB = 1024**3


@cache
def machine_presets() -> Mapping[str, Hardware]:
    """Return all machines by name, small machines first."""
    rows = json.loads((files("portico_server.models.plan") / "presets.json").read_text("utf-8"))
    return {row["name"]: _hardware(row) for row in rows}


def machine_preset(name: str) -> Hardware:
    """Return one machine. Raise `InvalidRequest` with the valid names."""
    hardware = machine_presets().get(name) or _parse(name)
    if hardware is None:
        raise InvalidRequest(
            f"No hardware preset is named '{name}'.{nearest(name, machine_presets())} Presets: "
            f"{', '.join(machine_presets())}. You can also describe a machine, such as '2 x A100 80GB, 512 "
            "GB, 64 cores', or a cluster, such as '4 nodes, 8 x H100'.",
            param="hardware",
        )
    return hardware


MAX_GPUS_COUNT = 64
MAX_MEMORY_GB = 65_536
DEFAULT_CORES_COUNT = 8
"""Number of cores of a machine whose description does not give a number."""

_MEMORY = re.compile(r"(\d{1,15}(?:\.\d+)?) ?(?:gb?|gib)(?: (?:memory|ram))?", re.IGNORECASE)
_CORES = re.compile(r"(\d{1,4}) ?(?:cores?|cpus?)", re.IGNORECASE)
_NODES = re.compile(r"(\d{1,4}) ?nodes?", re.IGNORECASE)
_COUNT = re.compile(r"(\d{1,2}) ?[x×*] ?", re.IGNORECASE)
_SIZE = re.compile(r"[\s-](\d{1,3}(?:\.\d+)?) ?(?:gb?|gib)\b", re.IGNORECASE)
_DECORATION = re.compile(r"nvidia|geforce|tesla|rtx|sxm\d?|pcie|hbm\d?e?|[^a-z0-9]")
"""Parts of GPU names that are dropped to get the common name."""


@dataclass(frozen=True, slots=True)
class _KnownGpu:
    """A known GPU.

    ``sizes`` maps the size on the data sheet, in GB, to the memory that the driver reports. The most common size is
    first.
    """

    name: str
    sizes: Mapping[float, float]
    capability: float


@cache
def _known_gpus() -> Mapping[str, _KnownGpu]:
    rows = json.loads((files("portico_server.models.plan") / "gpus.json").read_text("utf-8"))["gpus"]
    return {
        _plain(row["name"]): _KnownGpu(
            row["name"],
            dict(zip(row["memory_gb"], row.get("usable_gb", row["memory_gb"]), strict=True)),
            row["capability"],
        )
        for row in rows
    }


def _plain(name: str) -> str:
    return _DECORATION.sub("", name.lower())


def _is_known(name: str) -> bool:
    return _plain(name) in _known_gpus()


def _parse(text: str) -> Hardware | None:
    """Parse a machine description: nodes, GPUs, memory and cores, separated by commas. The rest describes each node.

    Return ``None`` if the text is not a description. Raise `InvalidRequest` for an unknown GPU, or impossible sizes.
    """
    memory_gb, cores, nodes = 0.0, DEFAULT_CORES_COUNT, 1
    gpus: tuple[Gpu, ...] = ()
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or (
        len(parts) == 1 and parts[0].islower() and parts[0].isalnum() and not _is_known(parts[0])
    ):
        return None  # the name of a preset, perhaps with a typo
    for part in parts:
        if match := _MEMORY.fullmatch(part):
            memory_gb = float(match[1])
        elif match := _CORES.fullmatch(part):
            cores = int(match[1])
        elif match := _NODES.fullmatch(part):
            nodes = int(match[1])
        else:
            count, size = _COUNT.match(part), _SIZE.search(part)
            bare = _SIZE.sub("", part[count.end() if count else 0 :])
            gpus += _gpus(int(count[1]) if count else 1, bare, float(size[1]) if size else 0.0)
    memory_gb = memory_gb or max(16.0, 1.5 * sum(gpu.memory_bytes for gpu in gpus) / _GIB)
    if not cores >= 1 or not nodes >= 1 or memory_gb > MAX_MEMORY_GB or memory_gb < 1:
        raise InvalidRequest(
            f"'{text}' is not a valid machine: memory must be 1 to {MAX_MEMORY_GB:,} GB, and the machine "
            "needs at least one node and one core.",
            param="hardware",
        )
    return Hardware(cores, int(memory_gb * _GIB), gpus, nodes)


def _gpus(count: int, name: str, size_gb: float) -> tuple[Gpu, ...]:
    gpu = _known_gpus().get(_plain(name))
    if gpu is None or not 1 <= count <= MAX_GPUS_COUNT:
        names = [known_gpu.name for known_gpu in _known_gpus().values()]
        close = nearest(name, names) if gpu is None else ""
        raise InvalidRequest(
            f"'{count} x {name[:80]}' is not a known GPU.{close} Use 1 to {MAX_GPUS_COUNT} of: "
            f"{', '.join(names)}.",
            param="hardware",
        )
    if size_gb and size_gb not in gpu.sizes:
        raise InvalidRequest(
            f"An {gpu.name} has {' or '.join(f'{size:g}' for size in gpu.sizes)} GB, not {size_gb:g}.",
            param="hardware",
        )
    usable = gpu.sizes[size_gb or next(iter(gpu.sizes))]
    return (Gpu(f"NVIDIA {gpu.name}", int(usable * _GIB), capability=gpu.capability),) * count


def _hardware(row: Mapping[str, Any]) -> Hardware:
    memory = int(row["memory_gb"] * _GIB)
    gpu = row.get("gpu")
    if gpu is None:
        return Hardware(row["cores"], memory)
    if gpu.get("shared"):
        return Hardware(row["cores"], memory, (Gpu(gpu["name"], int(memory * METAL_SHARE), shared=True),))
    gpu_model = Gpu(gpu["name"], int(gpu["memory_gb"] * _GIB), capability=gpu["capability"])
    return Hardware(row["cores"], memory, (gpu_model,) * gpu.get("count", 1))
