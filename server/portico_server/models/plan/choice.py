"""Chooses the engine, parameters and memory for a model on a machine, and gives the reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico_server.models.gguf import Gguf
from portico_server.models.hardware import Hardware, describe
from portico_server.models.plan import transformers
from portico_server.models.plan.gguf_choice import plan_on_llamacpp
from portico_server.models.plan.gpu_choice import GpuPlanning
from portico_server.models.plan.llamacpp import CompanionFiles
from portico_server.models.plan.nearest import gb, nearest_gguf_of
from portico_server.models.plan.outcome import MemoryEstimate, PlanOutcome
from portico_server.models.plan.weights import ModelWeights
from portico_server.models.protocol import MEMORY_SHARE, GpuTraits


def plan_model(
    model: Gguf | ModelWeights,
    hardware: Hardware,
    parameters: Mapping[str, Any] | None = None,
    *,
    name: str = "",
    budget: int | None = None,
    engine: str = "auto",
    beside: CompanionFiles = CompanionFiles(),  # noqa: B008  # frozen
    servers: Mapping[str, GpuTraits],
) -> PlanOutcome:
    """Plan a model for a machine.

    ``budget`` is the memory for models in bytes; ``None`` means a share of the machine's memory. ``engine`` is the
    requested engine. ``beside`` are the files that are loaded together with a GGUF file. ``servers`` are the engines
    for safetensors on a GPU, the preferred engine first.
    """
    options = parameters or {}
    if isinstance(model, Gguf):
        return plan_on_llamacpp(model, hardware, options, name or model.name, budget, beside)
    planning = GpuPlanning(model, hardware, options, name or model.name, budget)
    if engine in servers:
        return planning.asked_for(engine, servers)
    if engine != "transformers" and needs_gpu_server(model, hardware):
        return planning.best(servers)
    if model.quantisation:
        return planning.refuse(*next(iter(servers.items())))
    return _transformers(model, hardware, options, name or model.name, budget)


def needs_gpu_server(model: ModelWeights, hardware: Hardware) -> bool:
    """Return whether a folder of safetensors runs on an engine for GPUs, unless another engine was requested."""
    is_ours = model.ranks or model.draws or bool(model.sound)
    return not is_ours and any(not gpu.shared for gpu in hardware.gpus)


def plan_other_engines(
    name: str, engine: str, hardware: Hardware, reason: str, memory: int = 0
) -> PlanOutcome:
    """Plan a model for which there are no files to inspect. ``memory`` is all the memory, in bytes, that it uses
    here.
    """
    available = int(hardware.memory_bytes * MEMORY_SHARE)
    estimate = MemoryEstimate("cpu", 0, 0, memory, available)
    return PlanOutcome(name, describe(hardware), engine, {}, estimate, memory <= available, (reason,))


def _transformers(
    model: ModelWeights, hardware: Hardware, parameters: Mapping[str, Any], name: str, budget: int | None
) -> PlanOutcome:
    transformers_plan = transformers.plan_transformers(model, hardware, parameters, budget)
    fits = transformers_plan.total <= transformers_plan.available
    estimate = MemoryEstimate(
        transformers_plan.device,
        transformers_plan.weights,
        transformers_plan.cache,
        transformers_plan.other,
        transformers_plan.available,
    )
    sentence = f"It needs about {gb(estimate.total)} of the {gb(estimate.available)} available to models."
    return PlanOutcome(
        model=name,
        hardware=describe(hardware),
        engine="transformers",
        parameters=transformers_plan.parameters,
        estimate=estimate,
        fits=fits,
        reasons=(*transformers.transformers_reasons(model, hardware, transformers_plan), sentence),
        nearest="" if fits else nearest_gguf_of(model, hardware),
    )
