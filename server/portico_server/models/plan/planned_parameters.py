"""Fills in the parameters and the engine that a model's spec leaves open, from a plan. Blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.models.hardware import Hardware
from portico_server.models.plan import weight_files
from portico_server.models.plan.choice import plan_model
from portico_server.models.plan.weights import ModelWeights
from portico_server.models.protocol import Engine, PlansGpus
from portico_server.models.spec import ModelSpec


def fill_parameters(spec: ModelSpec, path: Path | None, hardware: Hardware, engine: PlansGpus) -> ModelSpec:
    """Return the spec with planned parameters. The spec stays unchanged without an NVIDIA GPU or without safetensors.

    Raise `InvalidRequest` with the nearest alternative if the model cannot fit.
    """
    if path is None or not any(not gpu.shared for gpu in hardware.gpus):
        return spec
    model = weight_files.read_weights(path, spec.name)
    if not isinstance(model, ModelWeights):
        return spec
    servers = {engine.name: engine.gpu_traits}
    plan_outcome = plan_model(
        model, hardware, spec.parameters, name=spec.name, engine=engine.name, servers=servers
    )
    if not plan_outcome.fits:
        raise InvalidRequest(
            f"'{spec.name}' does not fit {plan_outcome.hardware}. {plan_outcome.reasons[-1]} {plan_outcome.nearest}",
            code="does_not_fit",
            param="source",
        )
    return replace(spec, parameters={**plan_outcome.parameters, **spec.parameters})


def gpu_engine(spec: ModelSpec, path: Path, hardware: Hardware, engines: Sequence[PlansGpus]) -> str:
    """Return the engine for a folder of safetensors on a GPU machine: the first of ``engines`` on which the model
    fits.
    """
    engines = [engine for engine in engines if takes(engine, spec, path)] or engines
    try:
        model = weight_files.read_weights(path, spec.name)
        servers = {engine.name: engine.gpu_traits for engine in engines}
        return plan_model(model, hardware, spec.parameters, name=spec.name, servers=servers).engine
    except PorticoError:
        return engines[0].name  # starting the model reports what is wrong with the files


def takes(engine: Engine, spec: ModelSpec, path: Path | None) -> bool:
    """Return whether an engine supports a spec's parameters and the task of its model."""
    try:
        engine.describe(spec, path)
    except PorticoError:
        return False
    return True
