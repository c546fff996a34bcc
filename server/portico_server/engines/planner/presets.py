"""Machines to plan for that are not this one. They are data: ``presets.json``, memory in GiB."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from portico_server.core.errors import InvalidRequest, nearest
from portico_server.engines.hardware import METAL_SHARE, Gpu, Hardware

_GIB = 1024**3


@cache
def presets() -> Mapping[str, Hardware]:
    """Every machine by its name, small ones first."""
    rows = json.loads((files("portico_server.engines.planner") / "presets.json").read_text("utf-8"))
    return {row["name"]: _hardware(row) for row in rows}


def preset(name: str) -> Hardware:
    """One machine. Raises `InvalidRequest` with the names."""
    found = presets().get(name)
    if found is None:
        raise InvalidRequest(
            f"There is no hardware '{name}' to plan for.{nearest(name, presets())} There is "
            f"{', '.join(presets())}.",
            param="hardware",
        )
    return found


def _hardware(row: Mapping[str, Any]) -> Hardware:
    memory = int(row["memory_gb"] * _GIB)
    gpu = row.get("gpu")
    if gpu is None:
        return Hardware(row["cores"], memory)
    if gpu.get("shared"):
        return Hardware(row["cores"], memory, (Gpu(gpu["name"], int(memory * METAL_SHARE), shared=True),))
    one = Gpu(gpu["name"], int(gpu["memory_gb"] * _GIB), capability=gpu["capability"])
    return Hardware(row["cores"], memory, (one,) * gpu.get("count", 1))
