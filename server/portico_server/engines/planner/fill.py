"""Gives a model on vLLM the parameters of its plan, where its spec leaves them open. Blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from portico_server.core.errors import InvalidRequest
from portico_server.engines.hardware import Hardware
from portico_server.engines.planner import files
from portico_server.engines.planner.facts import Weights
from portico_server.engines.planner.plan import plan
from portico_server.engines.spec import ModelSpec


def filled(spec: ModelSpec, path: Path | None, hardware: Hardware) -> ModelSpec:
    """The spec with planned parameters. Without an NVIDIA GPU, where there is nothing to plan with, it is the same.

    Raises `InvalidRequest` for what cannot fit, with the nearest thing that would.
    """
    if path is None or not any(not gpu.shared for gpu in hardware.gpus):
        return spec
    model = files.read(path, spec.name)
    if not isinstance(model, Weights):
        return spec
    made = plan(model, hardware, spec.parameters, name=spec.name, engine="vllm")
    if not made.fits:
        raise InvalidRequest(
            f"'{spec.name}' does not fit {made.hardware}. {made.reasons[-1]} {made.nearest}",
            code="does_not_fit",
            param="source",
        )
    return replace(spec, parameters={**made.parameters, **spec.parameters})
