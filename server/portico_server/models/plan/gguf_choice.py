"""Plans how a GGUF file runs on a machine with llama.cpp, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from portico_server.models.gguf import Gguf
from portico_server.models.hardware import Gpu, Hardware, describe
from portico_server.models.plan import llamacpp
from portico_server.models.plan.llamacpp import CompanionFiles
from portico_server.models.plan.nearest import gb, recommended
from portico_server.models.plan.outcome import Q4_BITS, MemoryEstimate, PlanOutcome


def plan_on_llamacpp(
    file: Gguf,
    hardware: Hardware,
    parameters: Mapping[str, Any],
    name: str,
    budget: int | None,
    beside: CompanionFiles,
) -> PlanOutcome:
    """Return the plan for a GGUF file.

    ``beside`` are the files that are loaded together with the GGUF file; ``budget`` is in bytes, as in
    `choice.plan_model`.
    """
    cpp_plan = llamacpp.plan_gguf(
        file, hardware, parameters, embedding=llamacpp.is_embedding_model(file), beside=beside
    )
    metal = next((gpu for gpu in hardware.gpus if gpu.shared), None)
    available = llamacpp.memory_allowance(hardware) if budget is None else budget
    need = llamacpp.memory_need(file, cpp_plan)
    estimate = MemoryEstimate(
        "gpu" if metal else "cpu", need.weights, need.cache, need.compute + need.process, available
    )
    fits = estimate.total <= available
    return PlanOutcome(
        model=name,
        hardware=describe(hardware),
        engine="llamacpp",
        parameters=llamacpp.chosen_parameters(cpp_plan),
        estimate=estimate,
        fits=fits,
        reasons=tuple(_gguf_reasons(file, hardware, cpp_plan, estimate, metal)),
        nearest="" if fits else _nearest_gguf(file, hardware, parameters, cpp_plan, estimate),
    )


def _gguf_reasons(
    file: Gguf,
    hardware: Hardware,
    cpp_plan: llamacpp.LlamaCppPlan,
    estimate: MemoryEstimate,
    metal: Gpu | None,
) -> list[str]:
    billions = f", {file.parameters / 1e9:.2g} billion parameters" if file.parameters else ""
    reasons = [f"A GGUF file runs on llama.cpp ({file.quantisation or file.architecture}{billions})."]
    if cpp_plan.embedding:
        reasons.append(
            "It is an embedding model: each text is computed as one batch, and can be at most as long as the "
            "context."
        )
    calls = "call" if cpp_plan.slots == 1 else "calls"
    trained_tokens = file.context_length
    shorter_note = (
        f"; it was trained for {trained_tokens:,}" if trained_tokens > cpp_plan.context_length else ""
    )
    reasons.append(
        f"{cpp_plan.slots} {calls} at a time with {cpp_plan.context_length:,} tokens each{shorter_note}: "
        "a key-value cache of "
        f"{gb(estimate.cache)}."
    )
    if cpp_plan.projector:
        reasons.append(
            f"It accepts images through {Path(cpp_plan.projector).name}, which is loaded with the model."
        )
    if cpp_plan.draft:
        reasons.append(f"{Path(cpp_plan.draft).name} drafts tokens for the model, and has a separate cache.")
    if metal is not None:
        reasons.append(f"All layers run on the GPU ({metal.name}), which shares the machine's memory.")
    else:
        threads = f"{cpp_plan.threads} thread{'s' if cpp_plan.threads > 1 else ''}"
        cores = f"{hardware.cores} core{'s' if hardware.cores > 1 else ''}"
        reasons.append(f"It runs on the CPU with {threads} on {cores}.")
    if hardware.gpus and metal is None:
        reasons.append(
            f"The build of llama.cpp that Portico installs does not use the {hardware.gpus[0].name}; vLLM "
            "with safetensors of this model would."
        )
    reasons.append(
        f"It needs about {gb(estimate.total)} of the {gb(estimate.available)} available to models."
    )
    return reasons


def _nearest_gguf(
    file: Gguf,
    hardware: Hardware,
    parameters: Mapping[str, Any],
    now: llamacpp.LlamaCppPlan,
    estimate: MemoryEstimate,
) -> str:
    embedding = llamacpp.is_embedding_model(file)
    for context in (8_192, 4_096, llamacpp.MIN_CONTEXT_TOKENS):
        smaller = {**parameters, "slots": 1, "context_length": context}
        cpp_plan = llamacpp.plan_gguf(file, hardware, smaller, embedding=embedding)
        if (
            context < now.context_length * now.slots
            and llamacpp.memory_need(file, cpp_plan).total <= estimate.available
        ):
            return f"It fits with context_length {cpp_plan.context_length} and slots 1."
    quarter = int(file.parameters * Q4_BITS / 8)
    if quarter and quarter < file.file_size * 0.9:
        cpp_plan = llamacpp.plan_gguf(
            file, hardware, {"slots": 1, "context_length": 4_096}, embedding=embedding
        )
        if llamacpp.memory_need(replace(file, file_size=quarter), cpp_plan).total <= estimate.available:
            return f"A Q4_K_M file of the same model, about {gb(quarter)}, fits."
    return recommended(hardware)
